// Runs cells in one lasting JShell, for the agent that started this JVM (JDK 11 or newer).
//
// What comes in and goes out over the private pipes is what python/channel.py says, and as for
// javascript one more request: a line "interrupt <number>". The user's code runs in this JVM, too,
// so that it has one stdout and System.exit() ends it.
//
// The agent joins the files of this directory to one, which `java` compiles when it starts: the
// imports of all of them are here, and the first class is the one that runs.

import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.stream.Collectors;

import jdk.jshell.Diag;
import jdk.jshell.DeclarationSnippet;
import jdk.jshell.EvalException;
import jdk.jshell.JShell;
import jdk.jshell.JShellException;
import jdk.jshell.Snippet;
import jdk.jshell.SnippetEvent;
import jdk.jshell.SourceCodeAnalysis;
import jdk.jshell.UnresolvedReferenceException;
import sun.misc.Signal;

final class Main {
    /** What jshell imports, too. */
    private static final String[] IMPORTS = {
        "java.io.*", "java.math.*", "java.net.*", "java.nio.file.*", "java.util.*", "java.util.concurrent.*",
        "java.util.function.*", "java.util.prefs.*", "java.util.regex.*", "java.util.stream.*",
    };

    public static void main(String[] none) throws Exception {
        // Left alone it would end the JVM; an interrupt comes as a request, too. Ignored, the user's processes would ignore it.
        Signal.handle(new Signal("INT"), signal -> {});
        serve(new Channel());
    }

    /** Runs cells until the agent closes the pipe. */
    private static void serve(Channel channel) {
        try (JShell shell = JShell.builder().executionEngine("local").build()) {
            for (String name : IMPORTS) {
                shell.eval("import " + name + ";");
            }
            Cells cells = new Cells(shell, channel);
            channel.listen(cells);
            channel.send("{\"type\":\"ready\"}", new byte[0]);
            while (true) {
                cells.run(channel.next());
            }
        } catch (Exception failed) {
            failed.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }
}
