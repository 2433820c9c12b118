//! `cargo xtask bench --nodes 3`: three nodes of Chronik and three of Apache Kafka, one cluster after the other,
//! round after round, with replication factor 3.

use super::cluster_faults::{self, CatchUp, Failover};
use super::cluster_report::ClusterReport;
use super::cluster_servers::{ChronikCluster, Cluster, KafkaCluster};
use super::generator::Generator;
use super::loads::{Kind, Load, Targets};
use super::servers::{Chronik, Server};
use super::{Args, Plan, describe};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::time::Duration;

/// One load on clusters.
pub struct ClusterLoad {
    pub load: Load,
    /// Measured on our own standalone server, too.
    pub standalone: bool,
    /// Measured on a Chronik with `flush=os`, too: that one is compared with Kafka's rate, the flushing one
    /// with what the disk can take from three nodes.
    pub flush_os: bool,
}

const RSS: Option<f64> = Some(1.0 / 6.0);
const NONE: Targets = Targets {
    kafka_rate: None,
    kafka_p99: None,
    floor_rate: None,
    kafka_cpu: None,
    floor_cpu: None,
    kafka_rss: RSS,
};

const fn produce(
    name: &'static str,
    title: &'static str,
    arguments: &'static [&'static str],
    targets: Targets,
) -> Load {
    Load { name, title, kind: Kind::Produce, arguments, flushed: true, warmup_seconds: None, targets }
}

const fn linger(p99: f64) -> Targets {
    Targets { kafka_rate: Some(1.0), kafka_p99: Some(p99), ..NONE }
}

/// Part of our own standalone server's rate that a cluster is to reach with acks=all.
pub const OF_STANDALONE: f64 = 0.4;
/// Part of a third of the disk's rate that the flushed bulk load is to reach.
pub const OF_DISK_THIRD: f64 = 0.8;

pub const CLUSTER_LOADS: &[ClusterLoad] = &[
    ClusterLoad {
        load: produce(
            "cluster-small-all",
            "closed loop, linger 0, acks=all",
            &["--acks", "all"],
            Targets { kafka_rate: Some(8.0), kafka_p99: Some(0.125), kafka_cpu: Some(0.2), ..NONE },
        ),
        standalone: true,
        flush_os: false,
    },
    ClusterLoad {
        load: produce(
            "cluster-linger1-1",
            "closed loop, linger 1 ms, acks=1",
            &["--acks", "1", "--linger", "1ms"],
            linger(1.0),
        ),
        standalone: false,
        flush_os: false,
    },
    ClusterLoad {
        load: produce(
            "cluster-linger1-all",
            "closed loop, linger 1 ms, acks=all",
            &["--acks", "all", "--linger", "1ms"],
            linger(0.5),
        ),
        standalone: true,
        flush_os: false,
    },
    ClusterLoad {
        load: Load {
            kind: Kind::Mixed,
            ..produce(
                "cluster-linger1-mixed",
                "closed loop, linger 1 ms, two clients, acks=1 and all",
                &[
                    "--share",
                    "1=50",
                    "--share",
                    "all=50",
                    "--no-consumers",
                    "--clients",
                    "2",
                    "--linger",
                    "1ms",
                ],
                linger(0.5),
            )
        },
        standalone: false,
        flush_os: false,
    },
    ClusterLoad {
        load: produce(
            "cluster-bulk-all",
            "open loop, linger 5 ms, acks=all",
            &["--acks", "all", "--linger", "5ms", "--queue"],
            Targets { kafka_cpu: Some(1.0), ..NONE },
        ),
        standalone: true,
        flush_os: true,
    },
    ClusterLoad {
        load: Load {
            name: "cluster-consume",
            title: "consume 4 million messages",
            kind: Kind::Consume { cold: false },
            arguments: &[],
            flushed: false,
            warmup_seconds: None,
            targets: Targets { kafka_rate: Some(1.0), kafka_cpu: Some(1.0), ..NONE },
        },
        standalone: false,
        flush_os: false,
    },
];

/// What is measured besides the loads.
const EXTRA: &[(&str, &str)] = &[
    ("cluster-start", "start of three nodes to the first write acknowledged by all"),
    ("cluster-catchup", "an empty follower catching up"),
    ("cluster-failover", "kill -9 of a leader with 100 partitions (Chronik alone)"),
];

/// What takes part, and where the results go.
struct Bench<'a> {
    args: &'a Args,
    plan: Plan,
    generator: Generator,
    broker: PathBuf,
    home: PathBuf,
    kafka: Option<KafkaCluster>,
    report: ClusterReport,
}

/// Runs the cluster loads and writes target/bench/cluster.{json,md}.
pub fn run(args: &Args) -> Result<()> {
    if args.list {
        for known in CLUSTER_LOADS {
            println!("{:22} {}", known.load.name, known.load.title);
        }
        for (name, title) in EXTRA {
            println!("{name:22} {title}");
        }
        return Ok(());
    }
    let wanted = wanted(&args.loads)?;
    let plan = Plan::new(args);
    let home = shell::target_dir()?.join("bench");
    std::fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    let kafka = match super::kafka(&args.without, &args.peers, args.kafka.as_deref())? {
        Some(peers) => Some(KafkaCluster::new(peers, &home.join("run"))?),
        None => None,
    };
    let mut bench = Bench {
        args,
        generator: Generator::prepare(args.generator.as_deref())?,
        broker: super::broker(args.broker.as_deref())?,
        report: ClusterReport::new(&plan),
        plan,
        home,
        kafka,
    };
    let loads: Vec<&ClusterLoad> =
        CLUSTER_LOADS.iter().filter(|known| wanted.contains(&known.load.name)).collect();
    if !loads.is_empty() {
        bench.loads(&loads)?;
    }
    if wanted.contains(&"cluster-start") {
        bench.starts()?;
    }
    if wanted.contains(&"cluster-catchup") {
        bench.catch_ups()?;
    }
    if wanted.contains(&"cluster-failover") {
        bench.failovers()?;
    }
    if args.json {
        println!("{}", bench.report.json()?);
    } else {
        println!("{}", bench.report.markdown());
        println!("Written to {}/cluster.json and cluster.md", bench.home.display());
    }
    Ok(())
}

fn wanted(names: &[String]) -> Result<Vec<&'static str>> {
    let mut all = CLUSTER_LOADS.iter().map(|known| known.load.name).collect::<Vec<_>>();
    all.extend(EXTRA.iter().map(|(name, _)| *name));
    if let Some(unknown) = names.iter().find(|name| !all.contains(&name.as_str())) {
        bail!("no load on three nodes is called {unknown}; there are {}", all.join(", "));
    }
    all.retain(|name| names.is_empty() || names.iter().any(|wanted| wanted == name));
    Ok(all)
}

impl Bench<'_> {
    fn loads(&mut self, loads: &[&ClusterLoad]) -> Result<()> {
        let run = self.home.join("run");
        let mut chronik = ChronikCluster::new(&self.broker, &run, "disk")?;
        let mut flush_os = ChronikCluster::new(&self.broker, &run, "os")?;
        let mut standalone = Chronik::new(self.broker.clone(), &run)?;
        shell::step("starting the clusters");
        chronik.start_empty()?;
        if let Some(kafka) = &mut self.kafka {
            kafka.start_empty()?;
            warm_up(&self.generator, kafka, &self.plan)?;
        }
        for known in loads {
            let load = &known.load;
            shell::step(&format!("{}: {}", load.name, load.title));
            // What takes part in few loads runs only then, so that it costs the others nothing.
            if known.standalone {
                standalone.start_empty()?;
            }
            if known.flush_os {
                flush_os.start_empty()?;
            }
            for round in 1..=self.plan.rounds {
                if known.flush_os {
                    self.report.disk(cluster_faults::disk_rate(&run, &self.plan)?);
                }
                let mut sides: Vec<(&'static str, &dyn Server)> = vec![("chronik", &chronik)];
                if known.flush_os {
                    sides.push(("chronik flush=os", &flush_os));
                }
                if let Some(kafka) = &self.kafka {
                    sides.push(("kafka", kafka));
                }
                if known.standalone {
                    sides.push(("chronik standalone", &standalone));
                }
                for (side, server) in sides {
                    let measured = self.generator.run(
                        load,
                        server,
                        Duration::from_secs(self.plan.warmup_seconds),
                        Duration::from_secs(self.plan.seconds),
                    )?;
                    server.discard_data()?;
                    eprintln!("    round {round} {side:18} {}", describe(&measured));
                    self.report.measured(load, side, measured);
                }
            }
            standalone.stop()?;
            flush_os.stop()?;
            self.write()?;
        }
        chronik.stop()?;
        if let Some(kafka) = &mut self.kafka {
            kafka.stop()?;
        }
        Ok(())
    }

    fn starts(&mut self) -> Result<()> {
        shell::step("start of three nodes to the first write acknowledged by all");
        let mut chronik = ChronikCluster::new(&self.broker, &self.home.join("run"), "disk")?;
        for round in 1..=self.plan.rounds {
            let mut found = vec![("chronik", cluster_faults::start(&self.generator, &mut chronik)?)];
            if let Some(kafka) = &mut self.kafka {
                found.push(("kafka", cluster_faults::start(&self.generator, kafka)?));
            }
            for (side, ms) in found {
                eprintln!("    round {round} {side:18} {ms:>9.1} ms");
                self.report.started(side, ms);
            }
        }
        self.write()
    }

    fn catch_ups(&mut self) -> Result<()> {
        shell::step("an empty follower catching up");
        let mut chronik = ChronikCluster::new(&self.broker, &self.home.join("run"), "disk")?;
        for round in 1..=self.plan.rounds {
            let mut found = vec![("chronik", self.catch_up(&mut chronik)?)];
            if let Some(mut kafka) = self.kafka.take() {
                let measured = self.catch_up(&mut kafka);
                self.kafka = Some(kafka);
                found.push(("kafka", measured?));
            }
            for (side, measured) in found {
                eprintln!(
                    "    round {round} {side:18} {:>7.0} MB/s   {:.1} s from the start of its process",
                    measured.megabytes_per_second, measured.seconds_from_start
                );
                self.report.caught_up(side, measured);
            }
        }
        self.write()
    }

    fn catch_up(&self, cluster: &mut dyn Cluster) -> Result<CatchUp> {
        cluster.start_empty()?;
        let found = cluster_faults::catch_up(&self.generator, cluster, &self.broker, "catch-up", &self.plan)?;
        cluster.stop()?;
        Ok(found)
    }

    fn failovers(&mut self) -> Result<()> {
        shell::step("kill -9 of a leader, 100 partitions");
        let mut chronik = ChronikCluster::new(&self.broker, &self.home.join("run"), "disk")?;
        let tries = if self.plan.quick { self.args.tries.min(2) } else { self.args.tries };
        let found: Vec<Failover> =
            cluster_faults::failover(&self.generator, &mut chronik, &self.broker, tries, 4)?;
        self.report.failed_over(found);
        self.write()
    }

    /// Writes what there is so far, so that a run that is cut short leaves it.
    fn write(&self) -> Result<()> {
        self.report.write(&self.home)?;
        match self.args.publish {
            true => self.report.publish(&shell::root()?.join("docs")),
            false => Ok(()),
        }
    }
}

/// A JVM compiles what it runs often; the first seconds after its start say nothing about the rest.
fn warm_up(generator: &Generator, kafka: &KafkaCluster, plan: &Plan) -> Result<()> {
    let seconds = if plan.quick { 3 } else { 20 };
    shell::step(&format!("warming Apache Kafka up, 2 x {seconds} s"));
    for name in ["cluster-small-all", "cluster-bulk-all"] {
        let Some(known) = CLUSTER_LOADS.iter().find(|known| known.load.name == name) else { continue };
        generator.run(&known.load, kafka, Duration::from_secs(1), Duration::from_secs(seconds))?;
        kafka.discard_data()?;
    }
    Ok(())
}
