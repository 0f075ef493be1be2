
/** A cell as it comes. */
final class Cell {
    final int number;
    final String source;

    Cell(int number, String source) {
        this.number = number;
        this.source = source;
    }
}

/** The private pipes. A thread of ours reads: one that computes would hear of no interrupt. */
final class Channel {
    private static final int MAX_TEXT = 64 << 10; // the longest text of a value or an exception, in bytes

    private final DataInputStream requests;
    private final OutputStream events;
    private final PrintStream stdout = System.out;
    private final PrintStream stderr = System.err;
    private final BlockingQueue<Cell> cells = new LinkedBlockingQueue<>();

    Channel() throws IOException {
        requests = new DataInputStream(new BufferedInputStream(new FileInputStream("/dev/fd/3")));
        events = new FileOutputStream("/dev/fd/4", true); // what else it might be is not to be emptied
    }

    /** The next cell. */
    Cell next() throws InterruptedException {
        return cells.take();
    }

    /** Begins to read what the agent asks for. */
    void listen(Cells running) {
        Thread reader = new Thread(() -> {
            try {
                while (true) {
                    String[] words = line().split(" ");
                    if (words[0].equals("interrupt")) {
                        interrupt(running);
                        continue;
                    }
                    byte[] source = new byte[Integer.parseInt(words[1])];
                    requests.readFully(source);
                    running.begin();
                    cells.add(new Cell(Integer.parseInt(words[0]), new String(source, StandardCharsets.UTF_8)));
                }
            } catch (IOException | InterruptedException end) {
                Runtime.getRuntime().halt(0); // the agent has gone
            }
        }, "requests");
        reader.setDaemon(true);
        reader.start();
    }

    /** Again and again until the cell is over: what compiles cannot be stopped yet. */
    private static void interrupt(Cells running) throws InterruptedException {
        while (running.stop()) {
            Thread.sleep(20);
        }
    }

    private String line() throws IOException {
        StringBuilder line = new StringBuilder();
        for (int next; (next = requests.readUnsignedByte()) != '\n'; ) {
            line.append((char) next);
        }
        return line.toString();
    }

    /** Sends one event, behind all output written so far. */
    void send(String header, byte[] payload) throws IOException {
        flush(stdout, stderr, System.out, System.err);
        byte[] head = header.getBytes(StandardCharsets.UTF_8);
        ByteBuffer event = ByteBuffer.allocate(8 + head.length + payload.length);
        event.putInt(head.length).putInt(payload.length).put(head).put(payload);
        events.write(event.array());
    }

    /** Hands on what the streams still hold, even ones the user has put in place. */
    private static void flush(PrintStream... streams) {
        for (PrintStream stream : streams) {
            if (stream != null) {
                stream.print(""); // flush() leaves what a thread was printing when it was stopped
                stream.flush();
            }
        }
    }

    /** Shows a value. */
    void result(String value) throws IOException {
        byte[] text = bounded(value).getBytes(StandardCharsets.UTF_8);
        String forms = "[[\"text/plain\"," + text.length + "]]";
        send("{\"type\":\"display\",\"result\":true,\"id\":\"\",\"update\":false,\"forms\":" + forms + "}", text);
    }

    /** Shows an exception. */
    void exception(String name, String value, String traceback) throws IOException {
        String texts = ",\"value\":" + json(bounded(value)) + ",\"traceback\":" + json(bounded(traceback));
        send("{\"type\":\"exception\",\"name\":" + json(name) + texts + "}", new byte[0]);
    }

    void done(int number, boolean succeeded) throws IOException {
        send("{\"type\":\"done\",\"number\":" + number + ",\"status\":" + (succeeded ? 0 : 1) + "}", new byte[0]);
    }

    /** Text, with a ? for what is none, of a bounded length, which says so where it was cut. */
    private static String bounded(String text) {
        byte[] data = text.getBytes(StandardCharsets.UTF_8);
        if (data.length <= MAX_TEXT) {
            return new String(data, StandardCharsets.UTF_8);
        }
        String cut = new String(data, 0, MAX_TEXT, StandardCharsets.UTF_8).replaceAll("\ufffd+$", "");
        return cut + "\u2026 (" + data.length + " bytes in all)";
    }

    private static String json(String text) {
        StringBuilder made = new StringBuilder("\"");
        text.chars().forEach(unit -> {
            if (unit < ' ' || unit == '"' || unit == '\\' || Character.isSurrogate((char) unit)) {
                made.append(String.format("\\u%04x", unit));
            } else {
                made.append((char) unit);
            }
        });
        return made.append('"').toString();
    }
}
