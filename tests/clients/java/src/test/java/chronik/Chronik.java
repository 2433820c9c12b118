package chronik;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.ProcessBuilder.Redirect;
import java.util.regex.Pattern;

/** A broker on a free port, with data that goes with it; it ends when this process does, or before by {@link #close}. */
public final class Chronik implements AutoCloseable {
  private static final Pattern BOOTSTRAP = Pattern.compile("\"bootstrap\"\\s*:\\s*\"([^\"]+)\"");
  private static Chronik shared;

  private final Process process;
  private final String bootstrap;

  public Chronik(String binary, Redirect log) throws IOException {
    process =
        new ProcessBuilder(binary, "standalone", "--ephemeral", "--listen", "127.0.0.1:0", "--until-stdin-closes")
            .redirectError(log)
            .start();
    var ready = new BufferedReader(new InputStreamReader(process.getInputStream())).readLine();
    var found = BOOTSTRAP.matcher(ready == null ? "" : ready);
    if (!found.find()) throw new IOException(binary + " was not ready; it printed " + ready);
    bootstrap = found.group(1);
  }

  public String bootstrap() {
    return bootstrap;
  }

  /** Closes the broker's standard input, which ends it, and waits for that. */
  @Override
  public void close() throws IOException, InterruptedException {
    process.getOutputStream().close();
    process.waitFor();
  }

  /** The address of the broker that all tests of this process share. */
  public static synchronized String shared() {
    var running = System.getenv("BOOTSTRAP");
    if (running != null && !running.isEmpty()) return running;
    try {
      if (shared == null) {
        var log = System.getenv("BROKER_LOG");
        shared =
            new Chronik(
                System.getenv("BROKER"), log == null ? Redirect.INHERIT : Redirect.appendTo(new File(log)));
      }
      return shared.bootstrap();
    } catch (IOException error) {
      throw new IllegalStateException(error);
    }
  }
}
