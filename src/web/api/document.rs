//! The document of the API, OpenAPI 3.1, made from the handlers and the structs that they answer with.

use std::sync::LazyLock;

use axum::Json;
use axum::response::IntoResponse;
use utoipa::openapi::schema::{AllOf, Object, Schema};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{RefOr, Server};
use utoipa::{Modify, OpenApi, openapi};

use super::{orders, reads};

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(title = "Dinnerbell", description = "What the service tells and takes orders for. A value that is not known is null, and never left out."),
    paths(
        reads::now, reads::campaigns, reads::campaign, reads::told, reads::not_told, reads::client, reads::lanes, reads::dead_letters,
        reads::dead_letter, reads::audit, reads::doctor, orders::pause, orders::resume, orders::cancel, orders::replay
    ),
    modifiers(&Ours),
    security(("token" = []))
)]
struct Document;

/// What the macro cannot say.
struct Ours;

/// What is sent, in which fields may be left out.
const SENT: [&str; 3] = ["PauseOrder", "CancelOrder", "ReplayOrder"];

impl Modify for Ours {
    fn modify(&self, document: &mut openapi::OpenApi) {
        // From where the document stands, whatever prefix a proxy puts before it.
        document.servers = Some(vec![Server::new("../v1")]);
        let components = document.components.get_or_insert_with(Default::default);
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        for (name, schema) in &mut components.schemas {
            if !SENT.contains(&name.as_str()) {
                require_all(schema);
            }
        }
    }
}

/// Every field is there, null or not.
fn require_all(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(Object { properties, required, .. })) => {
            *required = properties.keys().cloned().collect()
        }
        RefOr::T(Schema::AllOf(AllOf { items, .. })) => items.iter_mut().for_each(require_all),
        _ => {}
    }
}

static TEXT: LazyLock<openapi::OpenApi> = LazyLock::new(Document::openapi);

/// The document.
pub fn document() -> &'static openapi::OpenApi {
    &TEXT
}

/// Serves the document.
pub(super) async fn serve() -> impl IntoResponse {
    Json(document())
}
