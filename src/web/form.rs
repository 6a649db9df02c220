//! Forms that somebody sends, as far as they are of a page that they were shown.

use axum::extract::{Form, FromRequest, Request};
use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::auth::Visitor;
use super::refusal::Refusal;

/// What a form holds besides its proof. All of it is text.
pub struct Signed<T>(pub T);

#[derive(Deserialize)]
struct Proven<T> {
    #[serde(default)]
    form_token: String,
    #[serde(flatten)]
    content: T,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Signed<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let visitor = request.extensions().get::<Visitor>().cloned();
        let unproven = || {
            let text =
                "this form is of a page that was shown to somebody else, or before you signed in: open the page again";
            Refusal::new(StatusCode::FORBIDDEN, text)
        };
        let visitor = visitor.ok_or_else(unproven)?;
        let read = Form::<Proven<T>>::from_request(request, state).await;
        let Form(form) = read.map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))?;
        if visitor.has_signed(&form.form_token) { Ok(Self(form.content)) } else { Err(unproven()) }
    }
}

/// A field that somebody filled in, without the blanks around it; none where it is empty.
pub fn given(field: &str) -> Option<String> {
    Some(field.trim().to_owned()).filter(|text| !text.is_empty())
}
