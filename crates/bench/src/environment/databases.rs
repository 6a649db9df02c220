//! What one run of the service stands on.

use std::path::Path;

use crate::audience::Audience;
use crate::environment::Ground;
use crate::environment::connection_string::words;
use crate::error::BenchError;
use dinnerbell_config::Config;
use dinnerbell_postgres::connect::Pool;

/// Topics, a group and empty tables for one run of the service.
pub struct Stage<'a> {
    pub(super) ground: &'a Ground<'a>,
    /// The configuration of the service and of everything that measures it.
    pub config: Config,
    /// How many lanes there are.
    pub lanes: i32,
    /// The bench's own way to the tables.
    pub pool: Pool,
}

impl Stage<'_> {
    /// The file by which the service is configured.
    pub fn file(&self) -> Option<&Path> {
        self.ground.setup.file.as_deref()
    }

    /// Partitions of the topic of drafts.
    pub fn partitions(&self) -> i32 {
        self.ground.setup.partitions
    }

    /// Makes the subscribers of a restaurant, and of the one that warms up.
    pub async fn seed(&self, audience: &Audience) -> Result<(), BenchError> {
        self.ground.seed(&Audience::warm_up()).await?;
        self.ground.seed(audience).await
    }

    /// The ground on which it stands.
    pub fn ground(&self) -> &Ground<'_> {
        self.ground
    }

    /// Drops its topics and its group; the next stage empties the tables.
    pub async fn end(self) -> Result<(), BenchError> {
        let topics = &self.config.kafka.topics;
        let names = [Some(&topics.campaigns), Some(&topics.notifications), topics.dead_letters.as_ref()];
        let names: Vec<&str> = names.into_iter().flatten().map(String::as_str).collect();
        self.ground.drop_topics(&names).await?;
        self.ground.drop_group(&self.config.kafka.group_id).await
    }

    /// What the service's environment says otherwise than the user's configuration.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let Config { kafka, subscribers, feedback, .. } = &self.config;
        let mut variables = vec![
            ("DINNERBELL_KAFKA__GROUP_ID", kafka.group_id.clone()),
            ("DINNERBELL_KAFKA__START", "earliest".to_owned()),
            ("DINNERBELL_KAFKA__TOPICS__CAMPAIGNS", kafka.topics.campaigns.clone()),
            ("DINNERBELL_KAFKA__TOPICS__NOTIFICATIONS", kafka.topics.notifications.clone()),
            ("DINNERBELL_SUBSCRIBERS__URL", words(subscribers)),
            ("DINNERBELL_SUBSCRIBERS__TABLE", subscribers.table.to_string()),
            ("DINNERBELL_FEEDBACK__URL", words(feedback)),
            ("DINNERBELL_FEEDBACK__TABLE", feedback.table.to_string()),
            ("DINNERBELL_FANOUT__RATE_LIMIT", "0".to_owned()),
        ];
        let dead_letters = kafka.topics.dead_letters.clone();
        variables.extend(dead_letters.map(|topic| ("DINNERBELL_KAFKA__TOPICS__DEAD_LETTERS", topic)));
        variables
    }

    /// What must not be in its environment: passwords are in the connection strings, and nothing is to fail.
    pub fn removed_variables(&self) -> [&'static str; 6] {
        [
            "DINNERBELL_SUBSCRIBERS__PASSWORD",
            "DINNERBELL_SUBSCRIBERS__PASSWORD_FILE",
            "DINNERBELL_FEEDBACK__PASSWORD",
            "DINNERBELL_FEEDBACK__PASSWORD_FILE",
            "DINNERBELL_FAIL_POINT",
            "DINNERBELL_WITHOUT",
        ]
    }
}
