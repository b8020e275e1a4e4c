//! `/admin/tokens`: making tokens, listing and revoking them.

use app::wire::Time;
use app::{App, Caller, Issued, MAX_TOKENS, NewToken, Platform, TokenRow};
use domain::{Role, Tenant};
use http::StatusCode;
use http::header::LOCATION;
use http::request::Parts;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::answer::{Answer, Reply};
use crate::body::{self, BodyReader};
use crate::headers;
use crate::json;
use crate::limits::{MAX_ADMIN_BODY_BYTES, MAX_TOKEN_NAME_CHARS};
use crate::problem::{Kind, Problem, shortened, unknown};
use crate::query::Query;
use crate::submission::reader::{Object, Reader, kind_of};

/// What a token may be asked for with.
const FIELDS: &[&str] = &["name", "tenant", "role", "expiresAt"];

/// All that is known of a token but its text.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenJson<'a> {
    id: &'a str,
    name: &'a str,
    tenant: &'a str,
    role: &'static str,
    created_at: Time,
    created_by: &'a str,
    expires_at: Option<Time>,
    /// Only in the answer to who has it made.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

#[derive(Serialize)]
struct TokensJson<'a> {
    items: Vec<TokenJson<'a>>,
}

impl<'a> TokenJson<'a> {
    fn of(row: &'a TokenRow, token: Option<&'a str>) -> Self {
        Self {
            id: &row.id,
            name: &row.name,
            tenant: row.tenant.as_str(),
            role: row.role.as_str(),
            created_at: Time(row.created_at),
            created_by: &row.created_by,
            expires_at: row.expires_at.map(Time),
            token,
        }
    }
}

/// `GET /admin/tokens`: those that were made here, not those of the settings.
pub async fn list<P: Platform>(app: &App<P>, parts: &Parts) -> Answer<P> {
    Query::parse(parts.uri.query(), &[], &[]).finish()?;
    app.migrate().await?;
    let rows = app.tokens().await?;
    let items = rows.iter().map(|row| TokenJson::of(row, None)).collect();
    Ok(Reply::json(StatusCode::OK, &TokensJson { items }))
}

/// `POST /admin/tokens`: the answer is the only one that ever has the token.
pub async fn create<P: Platform>(
    app: &App<P>,
    caller: &Caller,
    parts: &Parts,
    body: &mut impl BodyReader,
) -> Answer<P> {
    Query::parse(parts.uri.query(), &[], &[]).finish()?;
    headers::check_content_type(&parts.headers)?;
    let bytes = body::read(&parts.headers, body, MAX_ADMIN_BODY_BYTES).await?;
    let wanted = parse(app, json::parse(&bytes)?)?;
    app.migrate().await?;
    match app.issue_token(caller, wanted).await? {
        Issued::New(issued) => {
            let token = TokenJson::of(&issued.row, Some(&issued.text));
            Ok(Reply::json(StatusCode::CREATED, &token)
                .header_text(LOCATION, &format!("/admin/tokens/{}", issued.row.id)))
        }
        Issued::TooMany => {
            let detail = format!("At most {MAX_TOKENS} tokens are kept; revoke some first.");
            Err(Problem::new(Kind::TooManyTokens, detail).into())
        }
    }
}

/// `DELETE /admin/tokens/{token}`, by its id.
pub async fn revoke<P: Platform>(
    app: &App<P>,
    caller: &Caller,
    parts: &Parts,
    id: &str,
) -> Answer<P> {
    Query::parse(parts.uri.query(), &[], &[]).finish()?;
    app.migrate().await?;
    if app.revoke_token(caller, id).await? {
        return Ok(Reply::empty(StatusCode::NO_CONTENT));
    }
    let detail = format!(
        "There is no token {} that was made here; those of the settings go with them.",
        shortened(id)
    );
    Err(Problem::new(Kind::NotFound, detail).into())
}

fn parse<P: Platform>(app: &App<P>, value: Value) -> Result<NewToken, Problem> {
    let mut reader = Reader::default();
    let members = match value {
        Value::Object(members) => members,
        other => {
            let detail = format!("must be an object, not {}", kind_of(&other));
            reader.add(String::new(), detail);
            return Err(Problem::of_errors(Kind::Validation, reader.into_errors()));
        }
    };
    let mut object = Object::new(members, String::new());
    object.refuse_unknown(FIELDS, &mut reader);
    let wanted = NewToken {
        name: name(&mut object, &mut reader),
        tenant: tenant(app, &mut object, &mut reader),
        role: role(&mut object, &mut reader),
        expires_at: expires_at(app, &mut object, &mut reader),
    };
    match reader.into_errors() {
        none if none.is_empty() => Ok(wanted),
        errors => Err(Problem::of_errors(Kind::Validation, errors)),
    }
}

fn name(object: &mut Object, reader: &mut Reader) -> String {
    let name = object.text("name", reader).unwrap_or_default();
    let length = name.chars().count();
    if !(1..=MAX_TOKEN_NAME_CHARS).contains(&length) || name.contains(char::is_control) {
        let detail = format!(
            "must have 1 to {MAX_TOKEN_NAME_CHARS} characters, none of them a control character"
        );
        reader.add(object.pointer("name"), detail);
    }
    name
}

/// One of the settings: what others may have, nobody knows.
fn tenant<P: Platform>(app: &App<P>, object: &mut Object, reader: &mut Reader) -> Tenant {
    let Some(text) = object.text("tenant", reader) else {
        return Tenant::default();
    };
    match text.parse::<Tenant>() {
        Ok(tenant) if app.config().callers.knows(&tenant) => return tenant,
        Ok(_) => reader.add(
            object.pointer("tenant"),
            format!(
                "is `{}`, which the setting `tokens` does not name",
                shortened(&text)
            ),
        ),
        Err(wrong) => reader.add(object.pointer("tenant"), wrong.to_string()),
    }
    Tenant::default()
}

fn role(object: &mut Object, reader: &mut Reader) -> Role {
    let Some(text) = object.text("role", reader) else {
        reader.add(object.pointer("role"), "is required");
        return Role::Read;
    };
    Role::from_name(&text).unwrap_or_else(|| {
        let known = Role::ALL.map(Role::as_str);
        reader.add(
            object.pointer("role"),
            unknown("role", &shortened(&text), &known),
        );
        Role::Read
    })
}

fn expires_at<P: Platform>(
    app: &App<P>,
    object: &mut Object,
    reader: &mut Reader,
) -> Option<Timestamp> {
    let text = object.text("expiresAt", reader)?;
    let time = text.parse().ok().filter(|at: &Timestamp| *at > app.now());
    if time.is_none() {
        let detail = "must be a time of RFC 3339 that is yet to come, such as 2027-01-31T12:00:00Z";
        reader.add(object.pointer("expiresAt"), detail);
    }
    time
}
