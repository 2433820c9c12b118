//! A small cluster to give commands to.

use chronik_base::Uuid;
use chronik_meta::{AlterPartition, Command, Image, MetaError, Partition, Reply};

pub const TOPIC: Uuid = Uuid([0x70; 16]);

/// An image, and commands in few words. Partition 0 of the one topic is what it is mostly about.
pub struct Cluster {
    pub image: Image,
}

impl Cluster {
    /// Brokers 1 to `brokers`, all alive.
    pub fn new(brokers: i32) -> Self {
        let mut cluster = Self { image: Image::default() };
        for id in 1..=brokers {
            cluster.register(id, id as u8, id as u8);
            cluster.unfence(id);
        }
        cluster
    }

    /// The same with a topic of one partition on `replicas`.
    pub fn with_topic(brokers: i32, replicas: &[i32], configs: &[(&str, &str)]) -> Self {
        let mut cluster = Self::new(brokers);
        cluster.create(replicas, configs).unwrap();
        cluster
    }

    pub fn create(&mut self, replicas: &[i32], configs: &[(&str, &str)]) -> Result<Reply, MetaError> {
        self.run(Command::CreateTopic {
            name: "t".to_owned(),
            id: TOPIC,
            created: 0,
            assignments: vec![replicas.to_vec()],
            configs: configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        })
    }

    /// Checks a command and applies it; a refused one changes nothing.
    pub fn run(&mut self, command: Command) -> Result<Reply, MetaError> {
        self.image.check(&command)?;
        Ok(self.image.apply(&command))
    }

    pub fn register(&mut self, id: i32, incarnation: u8, directory: u8) -> i64 {
        let reply = self.run(Command::RegisterBroker {
            id,
            rack: None,
            endpoints: Vec::new(),
            incarnation: Uuid([incarnation; 16]),
            directory: Uuid([directory; 16]),
        });
        match reply {
            Ok(Reply::Registered { epoch }) => epoch,
            other => panic!("{other:?} is no registration"),
        }
    }

    pub fn epoch(&self, id: i32) -> i64 {
        self.image.broker(id).unwrap().epoch
    }

    pub fn unfence(&mut self, id: i32) {
        let epoch = self.epoch(id);
        self.run(Command::UnfenceBroker { id, epoch }).unwrap();
    }

    pub fn fence(&mut self, id: i32) {
        let epoch = self.epoch(id);
        self.run(Command::FenceBroker { id, epoch }).unwrap();
    }

    pub fn shut_down(&mut self, id: i32) {
        let epoch = self.epoch(id);
        self.run(Command::BeginShutdown { id, epoch }).unwrap();
    }

    /// What the leader would propose.
    pub fn proposal(&self, isr: &[i32]) -> AlterPartition {
        let current = self.partition();
        AlterPartition {
            topic: TOPIC,
            partition: 0,
            leader: current.leader,
            leader_epoch: current.leader_epoch,
            partition_epoch: current.partition_epoch,
            isr: isr.iter().map(|id| (*id, self.epoch(*id))).collect(),
        }
    }

    pub fn alter(&mut self, isr: &[i32]) {
        self.run(Command::AlterPartition(self.proposal(isr))).unwrap();
    }

    pub fn reassign(&mut self, target: &[i32]) -> Result<Reply, MetaError> {
        self.run(Command::Reassign { topic: TOPIC, partition: 0, target: Some(target.to_vec()) })
    }

    pub fn take_back(&mut self) -> Result<Reply, MetaError> {
        self.run(Command::Reassign { topic: TOPIC, partition: 0, target: None })
    }

    pub fn elect(&mut self, unclean: bool) -> Result<Reply, MetaError> {
        self.run(Command::ElectLeader { topic: TOPIC, partition: 0, unclean })
    }

    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let changes = vec![(name.to_owned(), value.map(str::to_owned))];
        self.run(Command::AlterTopicConfigs { topic: TOPIC, changes }).unwrap();
    }

    pub fn set_default(&mut self, name: &str, value: Option<&str>) {
        let changes = vec![(name.to_owned(), value.map(str::to_owned))];
        self.run(Command::AlterBrokerConfigs { broker: None, changes }).unwrap();
    }

    pub fn partition(&self) -> &Partition {
        self.image.partition("t", 0).unwrap()
    }

    /// Leader, leader epoch, ISR, eligible leaders.
    pub fn state(&self) -> (i32, i32, Vec<i32>, Vec<i32>) {
        let p = self.partition();
        (p.leader, p.leader_epoch, p.isr.to_vec(), p.eligible_leaders.to_vec())
    }

    /// Replicas, those added, those removed.
    pub fn replicas(&self) -> (Vec<i32>, Vec<i32>, Vec<i32>) {
        let p = self.partition();
        (p.replicas.to_vec(), p.adding.to_vec(), p.removing.to_vec())
    }
}
