import io.trino.plugin.hive.HivePlugin;
import io.trino.testing.DistributedQueryRunner;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Map;

import static io.trino.testing.TestingSession.testSessionBuilder;

/** Runs the statements of a file in Trino over folders of this machine, and writes the rows to another file, a row a line. */
public class RunTrino
{
    public static void main(String[] given)
            throws Exception
    {
        var session = testSessionBuilder().setCatalog("hive").setSchema("lake").build();
        var runner = DistributedQueryRunner.builder(session).setWorkerCount(0).build();
        runner.installPlugin(new HivePlugin());
        runner.createCatalog("hive", "hive", Map.of(
                "hive.metastore", "file",
                "hive.metastore.catalog.dir", "local://" + given[2],
                "fs.native-local.enabled", "true",
                "local.location", "/",
                "hive.parquet.time-zone", "UTC"));
        runner.execute("CREATE SCHEMA hive.lake");
        var found = new ArrayList<String>();
        for (String statement : Files.readString(Path.of(given[0])).split(";\\s*(\n|$)")) {
            for (var row : runner.execute(statement).getMaterializedRows()) {
                found.add(row.getFields().toString());
            }
        }
        Files.write(Path.of(given[1]), found);
        System.exit(0);
    }
}
