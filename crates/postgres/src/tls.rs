//! TLS as libpq's sslmode says it, by the same OpenSSL that Kafka uses.

use std::path::Path;

use openssl::ssl::{SslConnector, SslConnectorBuilder, SslFiletype, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use postgres_openssl::MakeTlsConnector;

use crate::errors::PostgresError;
use dinnerbell_config::{PostgresTls, SslMode};

/// The connector for a section's TLS settings. Reads the certificate files, so that a wrong one is found at the start.
pub(super) fn connector(section: &str, tls: &PostgresTls) -> Result<MakeTlsConnector, PostgresError> {
    let broken =
        |what: &str, why: openssl::error::ErrorStack| PostgresError::refused(format!("{section}.url: {what}: {why}"));
    let mut builder = SslConnector::builder(SslMethod::tls()).map_err(|why| broken("TLS cannot be set up", why))?;
    if let Some(file) = &tls.root_cert {
        trust_only(&mut builder, section, file)?;
    }
    if let Some((certificate, key)) = &tls.client_cert {
        builder
            .set_certificate_chain_file(certificate)
            .map_err(|why| broken(&format!("sslcert {} cannot be read", certificate.display()), why))?;
        builder
            .set_private_key_file(key, SslFiletype::PEM)
            .map_err(|why| broken(&format!("sslkey {} cannot be read", key.display()), why))?;
        builder.check_private_key().map_err(|why| broken("sslkey does not belong to sslcert", why))?;
    }
    // As in libpq, a given root certificate is always checked against; without one only the two verifying modes check.
    let verifies = tls.root_cert.is_some() || matches!(tls.mode, SslMode::VerifyCa | SslMode::VerifyFull);
    builder.set_verify(if verifies { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
    let verifies_name = tls.mode == SslMode::VerifyFull;
    let mut connector = MakeTlsConnector::new(builder.build());
    connector.set_callback(move |connection, _| {
        connection.set_verify_hostname(verifies_name);
        Ok(())
    });
    Ok(connector)
}

/// Only what this CA signed: the system's certificates do not count besides it.
fn trust_only(builder: &mut SslConnectorBuilder, section: &str, file: &Path) -> Result<(), PostgresError> {
    let refuse = |why: String| PostgresError::refused(format!("{section}.url: sslrootcert {}: {why}", file.display()));
    let pem = std::fs::read(file).map_err(|why| refuse(why.to_string()))?;
    let certificates = X509::stack_from_pem(&pem).map_err(|why| refuse(format!("not a PEM file: {why}")))?;
    if certificates.is_empty() {
        return Err(refuse("holds no certificate in PEM form".to_owned()));
    }
    let mut store = X509StoreBuilder::new().map_err(|why| refuse(why.to_string()))?;
    for certificate in certificates {
        store.add_cert(certificate).map_err(|why| refuse(why.to_string()))?;
    }
    builder.set_cert_store(store.build());
    Ok(())
}

/// The client library's own word for the mode: certificates are checked by the connector.
pub(super) fn library_mode(mode: SslMode) -> tokio_postgres::config::SslMode {
    match mode {
        SslMode::Disable => tokio_postgres::config::SslMode::Disable,
        SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
    }
}
