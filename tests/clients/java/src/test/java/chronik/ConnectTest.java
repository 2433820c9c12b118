package chronik;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.connect.cli.ConnectDistributed;
import org.apache.kafka.connect.runtime.Connect;
import org.apache.kafka.connect.runtime.Herder;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A worker of Kafka Connect with its three internal topics runs the connector that reads a file. */
class ConnectTest extends Clients {
  @TempDir Path folder;

  private Connect<? extends Herder> worker() {
    var config = new HashMap<String, String>();
    config.put("bootstrap.servers", Chronik.shared());
    config.put("group.id", name);
    config.put("listeners", "http://127.0.0.1:0");
    config.put("key.converter", "org.apache.kafka.connect.storage.StringConverter");
    config.put("value.converter", "org.apache.kafka.connect.storage.StringConverter");
    for (var topic : List.of("config", "offset", "status")) {
      config.put(topic + ".storage.topic", name + "-" + topic);
      config.put(topic + ".storage.replication.factor", "1");
    }
    config.put("offset.storage.partitions", "2");
    config.put("status.storage.partitions", "1");
    config.put("offset.flush.interval.ms", "200");
    config.put("plugin.discovery", "service_load");
    config.put("session.timeout.ms", "6000");
    config.put("heartbeat.interval.ms", "500");
    config.put("scheduled.rebalance.max.delay.ms", "0");
    return new ConnectDistributed().startConnect(config);
  }

  private static void stop(Connect<? extends Herder> worker) {
    worker.stop();
    worker.awaitStop();
  }

  @Test
  void fileSource() throws Exception {
    var file = folder.resolve("lines.txt");
    var topic = create(1);
    var connector =
        Map.of(
            "name", "lines",
            "connector.class", "org.apache.kafka.connect.file.FileStreamSourceConnector",
            "tasks.max", "1",
            "file", file.toString(),
            "topic", topic);
    Files.writeString(file, "one\ntwo\n");
    var reader = assigned(topic, 1, Map.of());
    var found = new ArrayList<String>();

    var worker = worker();
    try {
      var created = new CompletableFuture<Void>();
      worker
          .herder()
          .putConnectorConfig(
              "lines",
              connector,
              false,
              (error, result) -> {
                if (error == null) created.complete(null);
                else created.completeExceptionally(error);
              });
      created.get(60, TimeUnit.SECONDS);
      found.addAll(values(read(reader, 2)));
      Files.writeString(file, "three\n", StandardOpenOption.APPEND);
      found.addAll(values(read(reader, 1)));
    } finally {
      stop(worker);
    }
    // The next worker finds the connector, and how far it had read, in the internal topics.
    Files.writeString(file, "four\n", StandardOpenOption.APPEND);
    var second = worker();
    try {
      found.addAll(values(read(reader, 1)));
    } finally {
      stop(second);
    }
    assertEquals(List.of("one", "two", "three", "four"), found);
  }
}
