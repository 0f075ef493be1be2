
/** Cells, as jshell takes what is typed: snippet by snippet, until one fails. */
final class Cells {
    private static final Set<Snippet.SubKind> VALUES = Set.of(
        Snippet.SubKind.TEMP_VAR_EXPRESSION_SUBKIND,
        Snippet.SubKind.VAR_VALUE_SUBKIND,
        Snippet.SubKind.OTHER_EXPRESSION_SUBKIND);

    private final JShell shell;
    private final Channel channel;
    private final Errors errors;
    private boolean running;
    private boolean stopped;

    Cells(JShell shell, Channel channel) {
        this.shell = shell;
        this.channel = channel;
        errors = new Errors(shell, channel);
    }

    /** Runs a cell, shows what it leaves, and says that it is over. */
    void run(Cell cell) throws IOException {
        boolean succeeded = evaluate(cell);
        if (end()) {
            channel.exception("Interrupted", "the cell was interrupted", "Interrupted: the cell was interrupted");
            succeeded = false;
        }
        channel.done(cell.number, succeeded);
    }

    /** From here on a cell that has come can be stopped. */
    synchronized void begin() {
        running = true;
        stopped = false;
    }

    /** Says whether the cell was stopped. */
    private synchronized boolean end() {
        running = false;
        return stopped;
    }

    private synchronized boolean isStopped() {
        return stopped;
    }

    /** Stops what the cell runs; false where it is over. */
    synchronized boolean stop() {
        if (running) {
            stopped = true;
            shell.stop();
        }
        return running;
    }

    private boolean evaluate(Cell cell) throws IOException {
        Place place = new Place(cell);
        List<Snippet> unresolved = new ArrayList<>();
        String value = null;
        while (place.advance(shell.sourceCodeAnalysis())) {
            value = null;
            for (SnippetEvent event : shell.eval(place.source)) {
                if (isStopped()) {
                    return false;
                }
                if (event.causeSnippet() != null) {
                    continue; // what became of others by it
                }
                Snippet snippet = event.snippet();
                errors.stands(snippet, place);
                if (event.status() == Snippet.Status.REJECTED) {
                    errors.rejected(snippet, place);
                    return false;
                }
                if (event.exception() != null) {
                    errors.thrown(event.exception());
                    return false;
                }
                unresolved.add(snippet);
                if (VALUES.contains(snippet.subKind())) {
                    value = event.value() == null ? "<a value whose toString() failed>" : event.value();
                }
            }
        }
        errors.warn(unresolved);
        if (value != null) {
            channel.result(value);
        }
        return true;
    }
}

/** Where in its cell the next snippet stands. */
final class Place {
    final String cell;
    private final String text;
    private int end; // of the snippet before
    private int start;
    String source;

    Place(Cell cell) {
        this.cell = "<cell " + cell.number + ">";
        text = cell.source.startsWith("\ufeff") ? cell.source.substring(1) : cell.source;
    }

    /** Goes on to the next snippet, if there is one. */
    boolean advance(SourceCodeAnalysis analysis) {
        start = end;
        while (start < text.length() && Character.isWhitespace(text.charAt(start))) {
            start++;
        }
        String rest = text.substring(start);
        SourceCodeAnalysis.CompletionInfo found = analysis.analyzeCompletion(rest);
        if (found.completeness() == SourceCodeAnalysis.Completeness.EMPTY) {
            return false;
        }
        // What cannot be read is a snippet, too: its evaluation says what is wrong.
        boolean complete = found.completeness().isComplete();
        source = complete ? found.source() : rest;
        end = complete ? text.length() - found.remaining().length() : text.length();
        return true;
    }

    /** How many lines of the cell come before the snippet. */
    int before() {
        return (int) text.substring(0, start).chars().filter(unit -> unit == '\n').count();
    }
}
