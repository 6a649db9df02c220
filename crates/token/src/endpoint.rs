//! An authorization server's token endpoint, asked by the client-credentials grant (RFC 6749, 4.4), as librdkafka asks it.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dinnerbell_net::dial::{Family, connect};
use dinnerbell_net::foreign::{harmless, without_secrets};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, LOCATION};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use openssl::ssl::{SslConnector, SslMethod};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::jwt::LARGEST;
use crate::{Token, TokenError};

/// How long one fetch may take, from the name of the host to the last byte of the answer.
const FETCH: Duration = Duration::from_secs(10);

/// What a token endpoint is asked, and how.
#[derive(Default)]
pub struct EndpointSettings {
    /// Its address: `https://` or `http://`.
    pub url: String,
    /// Who asks.
    pub client_id: String,
    /// The proof of that; never printed.
    pub client_secret: String,
    /// What is asked for; empty where the server decides.
    pub scope: String,
    /// These certificates alone (PEM) sign the server's; the system's where there are none.
    pub roots: Option<Vec<u8>>,
}

/// A token endpoint.
pub struct Endpoint {
    url: Uri,
    host: String,
    authorization: HeaderValue,
    form: Bytes,
    tls: Option<SslConnector>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.to_string()).finish_non_exhaustive()
    }
}

/// Without what may be secret.
impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&without_secrets(&self.url.to_string()))
    }
}

impl Endpoint {
    /// An endpoint; nothing is contacted. Returns what is wrong with its address or its certificates.
    pub fn new(settings: &EndpointSettings) -> Result<Self, String> {
        let url: Uri = settings.url.trim().parse().map_err(|_| "is no address as https://host/path")?;
        let scheme = url.scheme_str().unwrap_or_default();
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if !["https", "http"].contains(&scheme) || host.is_empty() {
            return Err("must begin with https://, http:// or file:///".into());
        }
        if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("must hold no name and password: use sasl.oauthbearer.client.id and .client.secret".into());
        }
        let credentials = STANDARD.encode(format!("{}:{}", settings.client_id, settings.client_secret));
        let mut authorization =
            HeaderValue::try_from(format!("Basic {credentials}")).expect("base64 is made of what a header takes");
        authorization.set_sensitive(true);
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !settings.scope.is_empty() {
            form.append_pair("scope", &settings.scope);
        }
        let tls = match scheme {
            "https" => Some(connector(settings.roots.as_deref()).map_err(|error| error.to_string())?),
            _ => None,
        };
        Ok(Self { url, host, authorization, form: form.finish().into(), tls })
    }

    /// Its host, where it is asked without encryption.
    pub(crate) fn in_clear_to(&self) -> Option<&str> {
        self.tls.is_none().then_some(self.host.as_str())
    }

    /// Asks for a token.
    pub(crate) async fn fetch(&self) -> Result<Token, TokenError> {
        let asked = tokio::time::timeout(FETCH, self.ask()).await;
        asked.unwrap_or_else(|_| Err(self.away(&format!("no answer within {} s", FETCH.as_secs()))))
    }

    async fn ask(&self) -> Result<Token, TokenError> {
        let port = self.url.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let connected = connect((self.host.as_str(), port), Family::Any).await;
        let tcp = connected.map_err(|error| self.away(&error.to_string()))?;
        let (status, location, body) = match &self.tls {
            None => self.exchange(tcp).await?,
            Some(tls) => self.exchange(self.encrypt(tls, tcp).await?).await?,
        };
        if !status.is_success() {
            return Err(self.refusal(status, location.as_deref(), &body));
        }
        let answer: Option<Value> = serde_json::from_slice(&body).ok();
        let token = answer.as_ref().and_then(|answer| answer.get("access_token")).and_then(Value::as_str);
        let token = token.ok_or_else(|| self.wrong("its answer holds no access_token"))?;
        Token::parse(token).map_err(|problem| self.wrong(&format!("of its access_token: {problem}")))
    }

    async fn encrypt(&self, tls: &SslConnector, tcp: TcpStream) -> Result<SslStream<TcpStream>, TokenError> {
        let failed = |error: openssl::error::ErrorStack| self.away(&error.to_string());
        let ssl = tls.configure().and_then(|configured| configured.into_ssl(&self.host)).map_err(failed)?;
        let mut stream = SslStream::new(ssl, tcp).map_err(failed)?;
        match Pin::new(&mut stream).connect().await {
            Ok(()) => Ok(stream),
            Err(error) => {
                let verified = stream.ssl().verify_result();
                match verified == openssl::x509::X509VerifyResult::OK {
                    true => Err(self.away(&format!("TLS: {}", io::Error::other(error)))),
                    false => Err(self.wrong(&format!(
                        "its certificate is refused: {verified}: set kafka.client.https.ca.location to the PEM file of the CA that \
                         signed it, and address the endpoint by a name that the certificate holds"
                    ))),
                }
            }
        }
    }

    /// One request and its answer; nothing of the connection is left behind.
    async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
    ) -> Result<(StatusCode, Option<String>, Bytes), TokenError> {
        let broke = |error: hyper::Error| self.away(&error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
        let exchange = async {
            let response: Response<_> = sender.send_request(self.request()).await.map_err(broke)?;
            let (head, body) = response.into_parts();
            let location = head.headers.get(LOCATION).and_then(|location| location.to_str().ok()).map(str::to_owned);
            let read = Limited::new(body, LARGEST).collect().await;
            let body = read.map_err(|error| self.away(&format!("its answer cannot be read: {error}")))?;
            Ok((head.status, location, body.to_bytes()))
        };
        tokio::pin!(exchange);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            // Closed by the server: what it said before is taken all the same.
            _ = connection => exchange.await,
        }
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, authority)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(AUTHORIZATION, &self.authorization)
            .body(Full::new(self.form.clone()))
            .expect("its parts were checked when the endpoint was made")
    }

    fn refusal(&self, status: StatusCode, location: Option<&str>, body: &[u8]) -> TokenError {
        let words = words(body);
        match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => self.away(&format!("{status}{words}")),
            _ if status.is_server_error() => self.away(&format!("{status}{words}")),
            _ if status.is_redirection() => {
                let whither = location.map(|location| format!(" to {}", harmless(&without_secrets(location)))).unwrap_or_default();
                self.wrong(&format!(
                    "{status}{whither}: set kafka.client.sasl.oauthbearer.token.endpoint.url to where the endpoint is"
                ))
            }
            _ => self.wrong(&format!(
                "{status}{words}: check sasl.oauthbearer.client.id, .client.secret, .scope and .token.endpoint.url in kafka.client, and that \
                 the authorization server grants client_credentials to this client"
            )),
        }
    }

    fn wrong(&self, problem: &str) -> TokenError {
        TokenError::Refused(format!("fetching a token from {self}: {problem}"))
    }

    fn away(&self, problem: &str) -> TokenError {
        TokenError::Unavailable(format!(
            "fetching a token from {self}: {problem}: if this stays, check kafka.client.sasl.oauthbearer.token.endpoint.url"
        ))
    }
}

fn connector(roots: Option<&[u8]>) -> Result<SslConnector, openssl::error::ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    if let Some(roots) = roots {
        let mut store = X509StoreBuilder::new()?;
        for root in X509::stack_from_pem(roots)? {
            store.add_cert(root)?;
        }
        // As curl does: an authority that is trusted need not be the root.
        store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        builder.set_cert_store(store.build());
    }
    Ok(builder.build())
}

/// What an authorization server says of a refusal (RFC 6749, 5.2). Nothing else of an answer is repeated.
fn words(body: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = ["error", "error_description"].map(|name| answer.get(name).and_then(Value::as_str));
    said.into_iter().flatten().map(|text| format!(": {}", harmless(text))).collect()
}

#[cfg(test)]
mod tests;
