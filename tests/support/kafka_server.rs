//! Apache Kafka as the tests have it: one broker that all share, one of a test's own, or three of a test's own that replicate everything.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustix::process::Signal;
use tempfile::TempDir;

use super::servers::{
    GONE_WITHIN, ROOT, SHARED, alive, freeze, output, private_folder, read_env, read_pid, rig, signal, text,
};
use super::wait::wait_until;

/// One broker, or three. Private ones end with this value.
pub struct KafkaServer {
    /// `host:port` of the listener without security, of each broker.
    pub plaintext: String,
    /// `host:port` of the listener with TLS and SCRAM-SHA-512; three brokers have none.
    pub sasl_ssl: String,
    /// Who may log in there.
    pub username: String,
    /// Their password.
    pub password: String,
    /// PEM file of the private CA.
    pub ca: PathBuf,
    /// The brokers, in the order of their ids, which begin at 1.
    pub brokers: Vec<Broker>,
    /// What starts it, and where its data are.
    start: [String; 2],
    private: Option<TempDir>,
}

impl KafkaServer {
    /// The broker that all tests share: not to be stopped.
    pub fn shared() -> Arc<Self> {
        SHARED.kafka.clone()
    }

    /// A broker of a test's own.
    pub fn private() -> Arc<Self> {
        let folder = private_folder();
        let dir = folder.path().to_owned();
        rig(&["kafka", text(&dir)]);
        let env = read_env(&dir.join("kafka.env"));
        Arc::new(Self::from_env(dir, &env, Some(folder)))
    }

    /// Three brokers of a test's own.
    pub fn three() -> Arc<Self> {
        let folder = private_folder();
        let dir = folder.path().to_owned();
        rig(&["cluster", text(&dir)]);
        let env = read_env(&dir.join("cluster.env"));
        Arc::new(Self {
            plaintext: env["KAFKA_PLAINTEXT"].clone(),
            sasl_ssl: String::new(),
            username: String::new(),
            password: String::new(),
            ca: PathBuf::new(),
            brokers: (1..=3).map(|id| Broker { id, dir: dir.join(id.to_string()), private: true }).collect(),
            start: ["cluster".into(), text(&dir).into()],
            private: Some(folder),
        })
    }

    /// Ends it as an administrator would, and waits until it is gone.
    pub fn stop(&self) {
        self.brokers.iter().for_each(Broker::stop);
    }

    /// Ends it at once, and waits until it is gone.
    pub fn kill(&self) {
        self.brokers.iter().for_each(Broker::kill);
    }

    /// Starts what was ended again, on the same ports with the same data, and waits until it takes requests.
    pub fn start(&self) {
        rig(&[&self.start[0], &self.start[1]]);
    }

    /// From here on its listener with TLS takes tokens alone (OAUTHBEARER, without signatures), and wants another log-in after this time. It is down
    /// for a moment.
    pub fn take_tokens(&self, session_ms: &str) {
        self.stop();
        let listener = "listener.name.sasl_ssl";
        let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";
        let settings = format!(
            "{listener}.sasl.enabled.mechanisms=OAUTHBEARER\n\
             {listener}.oauthbearer.sasl.jaas.config={module} required unsecuredLoginStringClaim_sub=\"broker\";\n\
             {listener}.oauthbearer.connections.max.reauth.ms={session_ms}\n"
        );
        let file = fs::OpenOptions::new().append(true).open(self.brokers[0].dir.join("kafka.properties"));
        file.and_then(|mut file| file.write_all(settings.as_bytes())).expect("a private node is this test's own");
        self.start();
    }

    /// Stands still, with its connections open.
    pub fn freeze(&self) {
        self.brokers.iter().for_each(Broker::freeze);
    }

    /// Goes on.
    pub fn thaw(&self) {
        self.brokers.iter().for_each(Broker::thaw);
    }

    /// How many replicas a topic has, and Kafka's own ones.
    pub fn replicas(&self) -> i32 {
        i32::try_from(self.brokers.len()).expect("brokers are few")
    }

    /// Runs one of Kafka's own tools, for instance `kafka.admin.AclCommand`, and returns what it prints.
    pub fn tool(&self, class: &str, args: &[&str]) -> String {
        let mut java = Command::new("java");
        // It does little but start.
        java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", &format!("{ROOT}/.cache/kafka/lib/*"), class]);
        java.args(["--bootstrap-server", &self.plaintext]).args(args);
        output(&mut java)
    }

    pub(super) fn from_env(dir: PathBuf, env: &HashMap<String, String>, private: Option<TempDir>) -> Self {
        Self {
            plaintext: env["KAFKA_PLAINTEXT"].clone(),
            sasl_ssl: env["KAFKA_SASL_SSL"].clone(),
            username: env["KAFKA_USERNAME"].clone(),
            password: env["KAFKA_PASSWORD"].clone(),
            ca: PathBuf::from(&env["KAFKA_CA"]),
            start: ["kafka".into(), text(&dir).into()],
            brokers: vec![Broker { id: 1, dir, private: private.is_some() }],
            private,
        }
    }
}

impl Drop for KafkaServer {
    fn drop(&mut self) {
        if self.private.is_some() {
            self.brokers.iter().filter(|broker| broker.runs()).for_each(Broker::kill);
        }
    }
}

/// One node: broker and controller.
pub struct Broker {
    /// By what Kafka knows it.
    pub id: i32,
    dir: PathBuf,
    private: bool,
}

impl Broker {
    /// Ends it as an administrator would, and waits until it is gone.
    pub fn stop(&self) {
        self.end(Signal::TERM);
    }

    /// Ends it at once, and waits until it is gone.
    pub fn kill(&self) {
        self.end(Signal::KILL);
    }

    /// Stands still, with its connections open.
    pub fn freeze(&self) {
        freeze(&[self.pid()]);
    }

    /// Goes on.
    pub fn thaw(&self) {
        signal(self.pid(), Signal::CONT);
    }

    /// Whether it was not ended.
    pub fn runs(&self) -> bool {
        alive(self.pid())
    }

    fn end(&self, with: Signal) {
        assert!(self.private, "the shared Kafka is not to be ended; take Setting {{ own_kafka: true, .. }}");
        let pid = self.pid();
        signal(pid, with);
        wait_until("the broker is gone", GONE_WITHIN, || !alive(pid));
    }

    fn pid(&self) -> u32 {
        read_pid(&self.dir.join("kafka.pid"))
    }
}
