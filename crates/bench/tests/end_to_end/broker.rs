//! A broker and runs of the tool, as processes.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// The broker beside this test in the target directory, built if it is not there.
fn binary() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let binary = here.ancestors().nth(2).unwrap().join("chronik");
    if !binary.exists() {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let built = Command::new(cargo).args(["build", "-q", "-p", "chronik-cli"]).status().unwrap();
        assert!(built.success(), "chronik can't be built");
    }
    binary
}

/// A broker that keeps nothing; it ends with the value.
pub struct Broker {
    process: Child,
    address: String,
}

impl Broker {
    pub fn start() -> Self {
        let mut command = Command::new(binary());
        command.args(["standalone", "--ephemeral", "--listen", "127.0.0.1:0"]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        Self { process, address: told["bootstrap"].as_str().unwrap().to_owned() }
    }

    /// Starts the tool at this broker.
    pub fn bench(&self, args: &[&str]) -> Run {
        let (command, rest) = args.split_first().unwrap();
        bench(&[&[*command, "--bootstrap-server", &self.address, "--no-disk-probe"], rest].concat())
    }

    /// Stops the process for so long; returns for how long it was stopped at least.
    pub fn stall(&self, length: Duration) -> Duration {
        signal(self.process.id(), "STOP");
        let stopped = Instant::now();
        std::thread::sleep(length);
        let stalled = stopped.elapsed();
        signal(self.process.id(), "CONT");
        stalled
    }

    /// Waits until so many records were appended since the broker started.
    pub fn wait_for_records(&self, count: u64) {
        let started = Instant::now();
        while self.appended() < count {
            assert!(started.elapsed() < PATIENCE, "{} records instead of {count}", self.appended());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn appended(&self) -> u64 {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request =
            format!("GET /metrics HTTP/1.0\r\nHost: {}\r\nAccept: text/plain\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let values = page.lines().filter_map(|line| line.strip_prefix("chronik_appended_records_total"));
        values.map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }

    /// Makes a topic.
    pub fn create(&self, topic: &str, partitions: i32) {
        let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let created = wait_for(self.admin().create_topics([&topic], &AdminOptions::new())).unwrap();
        assert!(created[0].is_ok(), "{created:?}");
    }

    /// Topics that there are, without those of the broker itself.
    pub fn topics(&self) -> Vec<String> {
        let metadata = self.admin().inner().fetch_metadata(None, PATIENCE).unwrap();
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        names.filter(|name| !name.starts_with("__")).collect()
    }

    /// Writes values to partition 0, in order.
    pub fn produce(&self, topic: &str, values: &[Vec<u8>]) {
        let producer: BaseProducer = self.config().create().unwrap();
        for value in values {
            let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(0).payload(value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }

    /// The next offset of partition 0.
    pub fn end_offset(&self, topic: &str) -> i64 {
        self.admin().inner().fetch_watermarks(topic, 0, PATIENCE).unwrap().1
    }

    /// Removes everything that is there now; returns how many records that were.
    pub fn delete_records(&self, topic: &str, partitions: i32) -> u64 {
        let admin = self.admin();
        let mut before = TopicPartitionList::new();
        let mut count = 0;
        for partition in 0..partitions {
            let (_, end) = admin.inner().fetch_watermarks(topic, partition, PATIENCE).unwrap();
            count += end as u64;
            before.add_partition_offset(topic, partition, Offset::Offset(end)).unwrap();
        }
        let deleted = wait_for(admin.delete_records(&before, &AdminOptions::new())).unwrap();
        assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");
        count
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wait_for<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), process.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// A run of the tool.
pub struct Run(Child);

/// Starts the tool.
pub fn bench(args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chronik-bench"));
    Run(command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

impl Run {
    pub fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }

    /// Exit code, and everything that it said.
    pub fn finish(self) -> (i32, String) {
        let output = self.0.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8(said).unwrap())
    }
}

/// Exit code and result; standard output holds nothing but one JSON document, and standard error is empty.
pub fn json(run: Run) -> (i32, Value) {
    let output = run.0.wait_with_output().unwrap();
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert_eq!(complaints, "", "exit code {:?}", output.status.code());
    (output.status.code().unwrap_or(-1), serde_json::from_slice(&output.stdout).unwrap())
}
