//! Who is let in: bearer tokens (RFC 6750), and whoever is on this machine where none are configured.

use std::net::{IpAddr, SocketAddr};

use app::{App, Caller, Platform};
use domain::Role;
use http::header::{
    AUTHORIZATION, FORWARDED, HOST, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, Uri};

use crate::answer::Refusal;
use crate::problem::{Kind, Problem};

/// Where the caller is, `address:port`: what Spin and devhost say of each request. Spin adds its line behind the caller's own, where there is
/// one, so that only a single line is believed (crates/trigger-http/src/headers.rs and wasi.rs of Spin 3.5 to 4.0).
const CLIENT_ADDRESS: HeaderName = HeaderName::from_static("spin-client-addr");

/// What most proxies add.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What browsers add to all that they send (<https://www.w3.org/TR/fetch-metadata/>).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How a caller is to say who it is (RFC 6750, section 3).
const CHALLENGE: &str = "Bearer realm=\"executor\"";

/// The caller, if it may do that.
///
/// # Errors
/// The problem 401 or 403; or a failure, when the store cannot say whose token it is.
pub async fn admit<P: Platform>(
    app: &App<P>,
    parts: &Parts,
    needed: Role,
) -> Result<Caller, Refusal> {
    let from = client(&parts.headers);
    if app.config().callers.is_open() {
        check_local(&parts.headers, from)?;
        return Ok(Caller {
            from,
            ..Caller::local()
        });
    }
    let token = bearer(&parts.headers).ok_or_else(|| {
        let detail = "Send a token: Authorization: Bearer <token>.";
        challenged(Problem::new(Kind::Unauthorized, detail), CHALLENGE)
    })?;
    let caller = app.caller_of(token).await?.ok_or_else(|| {
        let detail = "Nobody has this token, or its time is over.";
        let challenge = format!("{CHALLENGE}, error=\"invalid_token\"");
        challenged(Problem::new(Kind::Unauthorized, detail), &challenge)
    })?;
    if caller.role < needed {
        let needed = needed.as_str();
        let detail = format!(
            "The role of this token is `{}`; this takes `{needed}`.",
            caller.role.as_str()
        );
        let challenge = format!("{CHALLENGE}, error=\"insufficient_scope\", scope=\"{needed}\"");
        let problem = challenged(Problem::new(Kind::Forbidden, detail), &challenge);
        return Err(problem.of_caller(caller).into());
    }
    Ok(Caller { from, ..caller })
}

fn challenged(problem: Problem, challenge: &str) -> Problem {
    match HeaderValue::from_str(challenge) {
        Ok(value) => problem.header(WWW_AUTHENTICATE, value),
        Err(_) => problem,
    }
}

/// The token of the one `Authorization: Bearer …` there is.
pub fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// Where the caller is, as far as the host says so.
pub fn client(headers: &HeaderMap) -> Option<IpAddr> {
    let mut values = headers.get_all(CLIENT_ADDRESS).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let address: SocketAddr = value.to_str().ok()?.parse().ok()?;
    Some(address.ip().to_canonical())
}

/// Without tokens only people and programs on this machine are answered: not who comes by a proxy, and no page of the web that a browser
/// here has open.
fn check_local(headers: &HeaderMap, from: Option<IpAddr>) -> Result<(), Problem> {
    let what = if !from.is_some_and(|ip| ip.is_loopback()) {
        "calls from elsewhere"
    } else if headers.contains_key(FORWARDED) || headers.contains_key(FORWARDED_FOR) {
        "comes by a proxy"
    } else if is_of_a_page(headers) {
        "comes from a web page of another site"
    } else {
        return Ok(());
    };
    let detail = format!(
        "No tokens are configured, so only callers on the machine itself are answered, and this one {what}. \
         The setting `tokens` says who may call: docs/OPERATIONS.md, \"Callers\"."
    );
    Err(Problem::new(Kind::Forbidden, detail))
}

/// Whether a browser sends it for a page that is not this machine's own. A name that leads here by a trick of the DNS counts as
/// another site.
fn is_of_a_page(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| value.to_str().unwrap_or(""))
    };
    let local = |authority: &str| {
        authority
            .parse::<Uri>()
            .ok()
            .and_then(|uri| uri.host().map(is_local_name))
            .unwrap_or(false)
    };
    let origin = text(ORIGIN);
    let site = text(FETCH_SITE).filter(|site| *site != "none");
    let from_here = origin.is_none_or(local) && text(HOST).is_some_and(local);
    // The sites of two ports of one machine are one.
    let is_another = site.is_some_and(|site| !matches!(site, "same-origin" | "same-site"));
    (origin.is_some() || site.is_some()) && (is_another || !from_here)
}

fn is_local_name(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
    host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(loopback)
}

#[cfg(test)]
mod tests {
    //! Where a request comes from, by its headers.
    use super::*;

    const HERE: &[(&str, &str)] = &[("spin-client-addr", "127.0.0.1:4711")];

    #[track_caller]
    fn check(pairs: &[(&'static str, &str)], is_local: bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_str(value).expect("a value");
            headers.append(HeaderName::from_static(name), value);
        }
        let answer = check_local(&headers, client(&headers));
        assert_eq!(answer.is_ok(), is_local, "{pairs:?}");
    }

    #[test]
    fn only_who_calls_from_here_is_local() {
        for (address, is_local) in [
            ("127.0.0.1:4711", true),
            ("127.8.9.1:1", true),
            ("[::1]:4711", true),
            ("[::ffff:127.0.0.1]:4711", true),
            ("10.0.0.7:4711", false),
            ("[fe80::1]:4711", false),
            ("0.0.0.0:0", false),
            ("127.0.0.1", false),
            ("localhost:1", false),
            ("", false),
        ] {
            check(&[("spin-client-addr", address)], is_local);
        }
        check(&[], false);
    }

    #[test]
    fn a_line_of_the_callers_own_is_not_believed() {
        let forged = ("spin-client-addr", "127.0.0.1:1");
        let real = ("spin-client-addr", "10.0.0.7:4711");
        check(&[forged, real], false);
        check(&[real, forged], false);
        check(&[forged, forged], false);
        check(&[("x-client-addr", "127.0.0.1:1"), real], false);
    }

    #[test]
    fn proxies_and_pages_of_others_are_not_local() {
        for (headers, is_local) in [
            (&[("x-forwarded-for", "10.0.0.7")][..], false),
            (&[("forwarded", "for=10.0.0.7")], false),
            (&[("host", "executor.test")], true),
            (
                &[
                    ("host", "localhost:3000"),
                    ("origin", "http://localhost:8080"),
                ],
                true,
            ),
            (
                &[("host", "[::1]:3000"), ("origin", "http://127.0.0.1")],
                true,
            ),
            (
                &[
                    ("host", "localhost:3000"),
                    ("origin", "https://evil.example"),
                ],
                false,
            ),
            (&[("host", "localhost:3000"), ("origin", "null")], false),
            // A name that was made to lead here.
            (
                &[
                    ("host", "evil.example:3000"),
                    ("origin", "http://evil.example:3000"),
                ],
                false,
            ),
            (
                &[
                    ("host", "evil.example:3000"),
                    ("sec-fetch-site", "same-origin"),
                ],
                false,
            ),
            (
                &[("host", "localhost:3000"), ("sec-fetch-site", "none")],
                true,
            ),
            (
                &[
                    ("host", "localhost:3000"),
                    ("sec-fetch-site", "same-origin"),
                ],
                true,
            ),
        ] {
            check(&[HERE, headers].concat(), is_local);
        }
        // An image or a form of another site has no Origin in some browsers.
        check(
            &[
                HERE,
                &[("host", "localhost:3000"), ("sec-fetch-site", "cross-site")],
            ]
            .concat(),
            false,
        );
    }
}
