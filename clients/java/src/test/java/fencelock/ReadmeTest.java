package fencelock;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Every Java block of the README runs, one after the other in one program, as a reader would paste them. */
class ReadmeTest {

    @Test
    void blocks(@TempDir Path dir) throws Exception {
        Server server = Server.empty();
        Set<String> imports = new LinkedHashSet<>();
        StringBuilder body = new StringBuilder();
        List<String> names = new ArrayList<>();
        Matcher blocks = Pattern.compile("<!-- run: (\\w+) -->\n```java\n(.*?)```", Pattern.DOTALL)
                .matcher(Files.readString(Path.of("README.md")));
        while (blocks.find()) {
            names.add(blocks.group(1));
            StringBuilder block = new StringBuilder();
            blocks.group(2).lines().forEach(line -> {
                if (line.startsWith("import ")) {
                    imports.add(line);
                } else {
                    block.append(line).append('\n');
                }
            });
            // One that makes what the others use has no braces about it; names inside of the others are their own.
            boolean first = names.size() == 1;
            body.append(first ? block : "new Block() { public void run(Locks locks) throws Exception {\n" + block + "}}.run(locks);\n");
        }
        assertEquals(List.of("jedis", "hold", "kinds", "lettuce", "frameworks"), names);
        String source = String.join("\n", imports) + "\npublic class Pasted {\n interface Block { void run(Locks locks)"
                + " throws Exception; }\n public static void main(String[] args) throws Exception {\n"
                + body.toString().replace("localhost:6379", "127.0.0.1:" + server.port)
                + "locks.close(); jedis.close(); }}\n";
        Path file = Files.writeString(dir.resolve("Pasted.java"), source);
        ByteArrayOutputStream faults = new ByteArrayOutputStream();
        assertEquals(0, ToolProvider.getSystemJavaCompiler().run(null, null, faults, "-cp",
                System.getProperty("surefire.test.class.path", System.getProperty("java.class.path")), "-d", dir.toString(),
                file.toString()), faults::toString);
        PrintStream out = System.out;
        ByteArrayOutputStream said = new ByteArrayOutputStream();
        try (URLClassLoader loader = new URLClassLoader(new URL[] {dir.toUri().toURL()}, getClass().getClassLoader())) {
            System.setOut(new PrintStream(said, true, StandardCharsets.UTF_8));
            loader.loadClass("Pasted").getMethod("main", String[].class).invoke(null, (Object) new String[0]);
        } finally {
            System.setOut(out);
        }
        String text = said.toString(StandardCharsets.UTF_8);
        assertTrue(text.startsWith("mine, under fence "), text);
        assertTrue(text.endsWith("one at a time\n"), text);
    }
}
