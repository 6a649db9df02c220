//! The contract, kept by the real implementations: PostgreSQL and Kafka.

mod kafka;
mod ledger;
mod postgres;

use crate::contract::audience::for_each_audience_case;
use crate::contract::broker::for_each_broker_case;
use crate::contract::clock::for_each_clock_case;
use crate::contract::ledger::for_each_ledger_case;

macro_rules! ledger {
    ($module:ident: $($case:ident,)+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    use crate::contract::ledger::environment::Environment;
                    let env = crate::contract_on_servers::ledger::Ledgered::fresh().await;
                    crate::contract::ledger::$module::$case(&env).await;
                }
            )+
        }
    };
}
mod cases {
    use super::for_each_ledger_case;
    for_each_ledger_case!(ledger);
}

macro_rules! broker {
    ($port:ident: $($case:ident,)+) => {
        mod $port {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    use crate::contract::broker::Environment;
                    let mut env = crate::contract_on_servers::kafka::Cluster::fresh().await;
                    crate::contract::$port::$case(&mut env).await;
                }
            )+
        }
    };
}
for_each_broker_case!(broker);

macro_rules! audience {
    ($port:ident: $($case:ident,)+) => {
        mod $port {
            $(
                #[tokio::test]
                async fn $case() {
                    use crate::contract::audience::Environment;
                    let mut env = crate::contract_on_servers::postgres::Subscribed::fresh().await;
                    crate::contract::$port::$case(&mut env).await;
                }
            )+
        }
    };
}
for_each_audience_case!(audience);

macro_rules! clock {
    ($port:ident: $($case:ident,)+) => {
        mod $port {
            $(
                #[tokio::test]
                async fn $case() {
                    use crate::contract::clock::Environment;
                    let mut env = crate::contract_on_servers::postgres::Timed::fresh().await;
                    crate::contract::$port::$case(&mut env).await;
                }
            )+
        }
    };
}
for_each_clock_case!(clock);
