//! What all answers share: the configuration, the way to the ledger, who may what, and who looks.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::doctor::http::check;
use crate::operator::audiences::Audiences;
use crate::web::auth::attempts::Attempts;
use crate::web::auth::keys::Keys;
use crate::web::auth::origin::Hosts;
use crate::web::live::Live;
use crate::web::ordering::Orders;
use crate::web::peer::Peer;
use crate::web::slots::Slots;
use dinnerbell_config::{Config, Database, Http};
use dinnerbell_core::model::finding::Findings;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::telemetry::Telemetry;
use dinnerbell_core::text_table::hex;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;

/// How long a page waits for the subscribers' database.
const OPEN: Duration = Duration::from_secs(1);

/// How far each lane is behind, and when that was told.
pub type Lags = (Instant, BTreeMap<Lane, Option<i64>>);

/// Connections to the feedback database for pages: their own, so that viewers take none from the lanes.
pub const CONNECTIONS: usize = 3;

/// All that answers share.
pub struct Site {
    /// The configuration in force.
    pub config: Config,
    /// The tokens.
    pub keys: Keys,
    /// Wrong tokens that were typed in.
    pub sign_ins: Attempts,
    /// Wrong tokens that requests held.
    pub bearers: Attempts,
    /// The names of this service.
    pub hosts: Hosts,
    /// How many may look.
    pub slots: Slots,
    /// The name of this machine.
    pub machine: String,
    /// The ledger.
    pub feedback: Pool,
    /// How large audiences are.
    pub audiences: Audiences,
    /// What this instance does.
    pub telemetry: Arc<Telemetry>,
    /// The configuration in force as text, without secrets; empty where nobody gave it.
    pub configuration: String,
    /// Held while everything is checked: one look at a time.
    pub checking: Arc<tokio::sync::Mutex<()>>,
    /// How far each lane is behind, as Kafka told last, and when.
    lags: Mutex<Option<Lags>>,
    /// What is looked at.
    pub live: Live,
    /// Orders that are being carried out.
    pub orders: Orders,
    /// The name of the cookie: that of another service on this host is another one.
    pub cookie: String,
    /// What forms are signed with where there is no token.
    own_key: [u8; 32],
    /// The hash of a link that signs in once.
    once: Mutex<Option<[u8; 32]>>,
}

impl Site {
    /// Contacts nobody. `machine` is the name of this one.
    pub fn new(config: &Config, machine: &str, telemetry: Arc<Telemetry>) -> Result<Self, PostgresError> {
        let few = Database { max_connections: CONNECTIONS, ..config.feedback.clone() };
        let name = format!("{}/{}", config.kafka.group_id, config.kafka.topics.campaigns);
        let mut own_key = [0; 32];
        openssl::rand::rand_bytes(&mut own_key)
            .map_err(|error| PostgresError::refused(format!("no random numbers: {error}")))?;
        Ok(Self {
            keys: Keys::new(&config.http),
            sign_ins: Attempts::default(),
            bearers: Attempts::default(),
            hosts: Hosts::new(&config.http.hosts, machine),
            slots: Slots::default(),
            machine: machine.to_owned(),
            feedback: Pool::open(&few, "feedback")?,
            audiences: Audiences::of(config).opened_within(OPEN),
            telemetry,
            configuration: String::new(),
            checking: Arc::default(),
            lags: Mutex::default(),
            live: Live::default(),
            orders: Orders::default(),
            cookie: format!("dinnerbell-{}", &hex(&Sha256::digest(name.as_bytes()))[..8]),
            own_key,
            once: Mutex::default(),
            config: config.clone(),
        })
    }

    /// Shows this configuration.
    pub fn showing(self, configuration: String) -> Self {
        Self { configuration, ..self }
    }

    /// `[http]`.
    pub fn http(&self) -> &Http {
        &self.config.http
    }

    /// How far each lane is behind, as Kafka told last, and when; none where it was not asked.
    pub fn lags(&self) -> Option<Lags> {
        self.lags.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what Kafka told.
    pub fn learn_lags(&self, lags: BTreeMap<Lane, Option<i64>>) {
        *self.lags.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), lags));
    }

    /// What forms are signed with where there is no token.
    pub fn own_key(&self) -> &[u8; 32] {
        &self.own_key
    }

    /// Lets the bearer of this sign in, once.
    pub fn admits_once(&self, secret: &str) {
        *self.once.lock().unwrap_or_else(PoisonError::into_inner) = Some(Sha256::digest(secret.as_bytes()).into());
    }

    /// Whether this signs in now. It does not again.
    pub fn is_admitted(&self, secret: &str) -> bool {
        let shown: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let mut once = self.once.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = once.as_ref().is_some_and(|once| openssl::memcmp::eq(once, &shown));
        if is_it {
            *once = None;
        }
        is_it
    }

    /// Whether a peer is the proxy that is believed.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.http().proxy.as_ref().is_some_and(|proxy| proxy.from.iter().any(|network| network.contains(address)))
    }

    /// Whether what is sent to a peer can be read on its way by nobody, or the operator said that it may be.
    pub fn may_answer(&self, peer: Peer) -> bool {
        peer.encrypted || peer.is_this_machine() || self.http().insecure || self.is_proxy(peer.address)
    }

    /// Who asks behind a proxy: a proxy of this machine, or the one that is believed, says it.
    pub fn client(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let said = || headers.get("x-forwarded-for")?.to_str().ok()?.rsplit(',').next()?.trim().parse().ok();
        let is_believed = peer.is_this_machine() || self.is_proxy(peer.address);
        is_believed.then(said).flatten().unwrap_or(peer.address)
    }

    /// Whether the browser speaks TLS: with this service, or with a proxy that says so.
    pub fn is_encrypted(&self, peer: Peer, headers: &HeaderMap) -> bool {
        let said = || headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
        peer.encrypted || (peer.is_this_machine() || self.is_proxy(peer.address)) && said()
    }

    /// Says in the log where it serves, and what is worth a thought about it.
    pub fn says_where(&self, address: SocketAddr, encrypted: bool) {
        tracing::info!(%address, tls = encrypted, "serving the page, /healthz, /readyz and /metrics");
        let mut found = Findings::default();
        check(self.http(), &mut found);
        found.log_warnings();
    }
}
