
/** What goes wrong in snippets, told in the places of cells. */
final class Errors {
    private static final int MAX_FRAMES = 10; // how many are told of each end of a stack

    private final JShell shell;
    private final Channel channel;
    /** The snippets by their ids: the cell of each, and how many of its lines come before. */
    private final Map<String, String> cells = new HashMap<>();
    private final Map<String, Integer> lines = new HashMap<>();

    Errors(JShell shell, Channel channel) {
        this.shell = shell;
        this.channel = channel;
    }

    /** Keeps where a snippet stands, for stacks of later cells, too. */
    void stands(Snippet snippet, Place place) {
        cells.put(snippet.id(), place.cell);
        lines.put(snippet.id(), place.before());
    }

    /** Shows why a snippet was not taken, as javac says it. */
    void rejected(Snippet snippet, Place place) throws IOException {
        String source = snippet.source();
        List<String> told = new ArrayList<>();
        String first = null;
        for (Diag wrong : shell.diagnostics(snippet).filter(Diag::isError).collect(Collectors.toList())) {
            String message = wrong.getMessage(Locale.ENGLISH);
            if (first == null) {
                first = message;
            }
            int at = (int) Math.min(Math.max(wrong.getPosition(), 0), source.length());
            int begins = source.lastIndexOf('\n', at - 1) + 1;
            int ends = source.indexOf('\n', at) < 0 ? source.length() : source.indexOf('\n', at);
            long line = place.before() + 1 + source.substring(0, at).chars().filter(unit -> unit == '\n').count();
            told.add(place.cell + ":" + line + ": error: " + message);
            told.add(source.substring(begins, ends).stripTrailing());
            told.add(" ".repeat(at - begins) + "^");
        }
        channel.exception("CompileError", first == null ? "it is no Java" : first, String.join("\n", told));
    }

    /** Shows what a snippet has thrown. */
    void thrown(JShellException error) throws IOException {
        String name = name(error);
        String told = told(error);
        for (Throwable cause = error.getCause(); cause instanceof JShellException; cause = cause.getCause()) {
            told += "\nCaused by: " + told((JShellException) cause);
        }
        channel.exception(name, message(error), told);
    }

    /** Says on stderr what was declared and cannot be used yet. */
    void warn(List<Snippet> declared) {
        for (Snippet snippet : declared) {
            if (snippet instanceof DeclarationSnippet && !shell.status(snippet).isDefined()
                    || shell.status(snippet) == Snippet.Status.RECOVERABLE_DEFINED) {
                System.err.println(missing((DeclarationSnippet) snippet));
            }
        }
    }

    private String missing(DeclarationSnippet snippet) {
        String missing = shell.unresolvedDependencies(snippet).collect(Collectors.joining(", "));
        return snippet.name() + " cannot be used until this is declared: " + missing;
    }

    private static String name(JShellException error) {
        return error instanceof EvalException
            ? own(((EvalException) error).getExceptionClassName())
            : error.getClass().getSimpleName();
    }

    /** Names as the user has given them: JShell has made classes around them. */
    private static String own(String text) {
        return text.replaceAll("REPL\\.\\$JShell\\$\\w+?[.$]", "");
    }

    private String message(JShellException error) {
        if (error instanceof UnresolvedReferenceException) {
            return missing(((UnresolvedReferenceException) error).getSnippet());
        }
        return error.getMessage() == null ? "" : own(error.getMessage());
    }

    /** An exception as Java tells it, with the frames above the cell's only. */
    private String told(JShellException error) {
        String message = message(error);
        StringBuilder told = new StringBuilder(name(error)).append(message.isEmpty() ? "" : ": " + message);
        StackTraceElement[] frames = error.getStackTrace();
        for (int at = 0; at < frames.length; at++) {
            if (frames.length > 2 * MAX_FRAMES && at == MAX_FRAMES) {
                at = frames.length - MAX_FRAMES;
                told.append("\n    ... ").append(at - MAX_FRAMES).append(" frames ...");
            }
            told.append("\n    at ").append(frame(frames[at]));
        }
        return told.toString();
    }

    /** A frame; of the user's, which JShell calls by the snippet, with its place in the cell. */
    private String frame(StackTraceElement frame) {
        String file = frame.getFileName();
        String id = file == null || !file.startsWith("#") ? "" : file.substring(1);
        if (!cells.containsKey(id)) {
            return own(frame.toString());
        }
        String place = cells.get(id) + ":" + (lines.get(id) + frame.getLineNumber());
        String method = frame.getMethodName();
        if (method.isEmpty()) {
            return place;
        }
        return (frame.getClassName().isEmpty() ? method : frame.getClassName() + "." + method) + " (" + place + ")";
    }
}
