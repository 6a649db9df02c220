//! `[http]`, checked.

use openssl::pkey::PKey;
use openssl::x509::X509;

use super::{Reader, certificates, private_key, read};
use crate::http;
use crate::http::{Http, HttpTls, Proxy, Role, Token};
use crate::values;

/// What a key that is about another one says without it.
const NEEDLESS: &str = "needs http.user_header, the header that it is about";

impl Reader<'_> {
    pub(super) fn http(&mut self) -> Option<Http> {
        let listen = self.parsed("http.listen", values::address);
        let (token, viewer_token) = (self.token("http.token"), self.token("http.viewer_token"));
        if let (Some(Some(token)), Some(Some(viewer))) = (&token, &viewer_token)
            && token.secret.reveal() == viewer.secret.reveal()
        {
            let problem = "is the token of http.token too: anyone who reads could order";
            let origin = self.settings.get("http.viewer_token").or(self.settings.get("http.viewer_token_file"));
            self.wrong::<()>("http.viewer_token", origin.map(|given| &given.origin), problem);
        }
        let tls = self.http_tls();
        let hosts = self.optional("http.hosts", http::hosts);
        let proxy = self.proxy();
        let insecure = self.boolean("http.insecure");
        Some(Http {
            listen: listen?,
            token: token?,
            viewer_token: viewer_token?,
            tls: tls?,
            hosts: hosts?.unwrap_or_default(),
            proxy: proxy?,
            insecure: insecure?,
        })
    }

    /// The outer option is none after a mistake, the inner one where there is none.
    fn token(&mut self, name: &str) -> Option<Option<Token>> {
        let secret = self.secret(name, http::token)?;
        let file = self.settings.get(&format!("{name}_file")).map(|given| given.origin.resolve(&given.text));
        Some(secret.map(|secret| Token { secret, file }))
    }

    fn http_tls(&mut self) -> Option<Option<HttpTls>> {
        let file = |name| self.settings.get(name).map(|given| (given.origin.resolve(&given.text), &given.origin));
        let (cert, key) = match (file("http.cert_file"), file("http.key_file")) {
            (None, None) => return Some(None),
            (Some((_, origin)), None) => {
                return self.wrong("http.cert_file", Some(origin), "needs http.key_file, its private key");
            }
            (None, Some((_, origin))) => {
                return self.wrong("http.key_file", Some(origin), "needs http.cert_file, the certificate of this key");
            }
            (Some(cert), Some(key)) => (cert, key),
        };
        let cert_is_one = match certificates(&cert.0) {
            Ok(()) => true,
            Err(problem) => self.wrong("http.cert_file", Some(cert.1), problem).unwrap_or(false),
        };
        match private_key(&key.0) {
            Err(problem) => self.wrong("http.key_file", Some(key.1), problem),
            Ok(()) if !cert_is_one => None,
            Ok(()) => {
                let tls = HttpTls { cert_file: cert.0, key_file: key.0 };
                match is_key_of(&tls) {
                    true => Some(Some(tls)),
                    false => self.wrong(
                        "http.key_file",
                        Some(key.1),
                        "is not the key of the first certificate of http.cert_file",
                    ),
                }
            }
        }
    }

    fn proxy(&mut self) -> Option<Option<Proxy>> {
        let header = self.optional("http.user_header", http::header);
        let from = self.optional("http.user_header_from", http::networks);
        let role = self.choice("http.user_header_role");
        let (header, from) = match (header?, from?) {
            (Some(header), Some(from)) => (header, from),
            (Some(_), None) => {
                self.missing(
                    "http.user_header_from",
                    "is needed with http.user_header: anyone who sets that header is believed",
                );
                return None;
            }
            (None, _) => {
                self.needless("http.user_header_from", NEEDLESS);
                // The default is no mistake: `config show` prints it.
                if role.is_some_and(|role| role == Role::Operator.name()) {
                    self.needless("http.user_header_role", NEEDLESS);
                }
                return Some(None);
            }
        };
        let role = if role? == Role::Operator.name() { Role::Operator } else { Role::Viewer };
        Some(Some(Proxy { header, from, role }))
    }
}

fn is_key_of(tls: &HttpTls) -> bool {
    let found = || {
        let cert = X509::from_pem(&read(&tls.cert_file).ok()?).ok()?.public_key().ok()?;
        let key = PKey::private_key_from_pem(&read(&tls.key_file).ok()?).ok()?;
        Some(cert.public_eq(&key))
    };
    found().unwrap_or(false)
}
