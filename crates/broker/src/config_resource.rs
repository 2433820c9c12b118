//! What the three APIs of settings have in common: which resource is meant, and how a change of it becomes a command.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_base::{ErrorCode, NodeId, TopicId};
use chronik_config::{ConfigChange, ConfigError, Scope, changed, validate_dynamic, validate_topic};
use chronik_meta::{Command, Configs, Image, topic_name_problem};

use crate::Broker;
use crate::refusal::Refusal;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Whose settings are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// A topic's.
    Topic(TopicId),
    /// One node's.
    Node(NodeId),
    /// Those altered for all nodes.
    AllNodes,
}

impl Resource {
    /// The resource of a request's type and name.
    pub(crate) fn find(broker: &Broker, image: &Image, kind: i8, name: &str) -> Result<Self, Refusal> {
        let bad = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        match kind {
            TOPIC => match (image.topic(name), topic_name_problem(name)) {
                (Some(topic), _) => Ok(Resource::Topic(topic.id)),
                (None, Some(problem)) => Err(Refusal::new(ErrorCode::InvalidTopicException, problem)),
                (None, None) => Err(Refusal::unknown_topic()),
            },
            BROKER if name.is_empty() => Ok(Resource::AllNodes),
            BROKER => match name.parse::<i32>() {
                Ok(id) if id == broker.node_id || image.broker(id).is_some() => Ok(Resource::Node(id)),
                Ok(id) => bad(format!(
                    "broker {id} is not registered: the registered ones are listed by DescribeCluster"
                )),
                Err(_) => bad(format!("Broker id must be an integer, but it is: {name}")),
            },
            _ => bad(format!(
                "Resource type {kind} has no settings here: only topics ({TOPIC}) and brokers ({BROKER}) have"
            )),
        }
    }

    pub(crate) fn scope(self) -> Scope {
        match self {
            Resource::Topic(_) => Scope::Topic,
            Resource::Node(_) | Resource::AllNodes => Scope::Node,
        }
    }

    /// What is set for it now.
    pub(crate) fn current(self, image: &Image) -> Arc<Configs> {
        match self {
            Resource::Topic(id) => {
                image.topic_by_id(&id).map(|topic| topic.configs.clone()).unwrap_or_default()
            }
            Resource::Node(id) => image.broker_configs(id).cloned().unwrap_or_default(),
            Resource::AllNodes => image.default_broker_configs().clone(),
        }
    }

    /// What is wrong with one of its settings, as its clients are used to hear it.
    pub(crate) fn refusal(self, error: &ConfigError) -> Refusal {
        match self {
            Resource::Topic(_) => Refusal::new(ErrorCode::InvalidConfig, error.to_string()),
            Resource::Node(_) | Resource::AllNodes => {
                Refusal::new(ErrorCode::InvalidRequest, error.to_string())
            }
        }
    }

    /// The command that makes `changes` of it, once what comes of them is checked.
    pub(crate) fn command(
        self,
        broker: &Broker,
        image: &Image,
        changes: Vec<ConfigChange>,
    ) -> Result<Command, Refusal> {
        let next = changed(&self.current(image), &changes);
        let settings = &broker.dynamic().settings;
        let refuse = |error: ConfigError| self.refusal(&error);
        match self {
            Resource::Topic(topic) => {
                validate_topic(&next, settings).map_err(refuse)?;
                Ok(Command::AlterTopicConfigs { topic, changes })
            }
            Resource::Node(_) | Resource::AllNodes => {
                validate_dynamic(&next).map_err(refuse)?;
                let (cluster, own, node) = match self {
                    Resource::Node(id) => (image.default_broker_configs().clone(), Arc::new(next), Some(id)),
                    _ => {
                        let own = Resource::Node(broker.node_id).current(image);
                        (Arc::new(next), own, None)
                    }
                };
                // A topic without settings of its own takes the node's: those must fit together too. What is in the file of another node isn't
                // known here; this node's stands in for it.
                let settings = settings.with_dynamic(&cluster, &own);
                validate_topic(&BTreeMap::new(), &settings).map_err(refuse)?;
                Ok(Command::AlterBrokerConfigs { broker: node, changes })
            }
        }
    }
}
