//! The address of a PostgreSQL server, as `database_url` gives it and as the host is given it.
//!
//! Both forms are those of libpq, read as Spin's client reads them (tokio-postgres 0.7): a URL, or `name=value` settings.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

use percent_encoding::{percent_decode_str, utf8_percent_encode};

/// The settings that Spin's client knows; with any other it refuses the whole address, and does not say why.
const SETTINGS: [&str; 19] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslmode",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// The ways to encrypt that Spin's client knows.
const SSL_MODES: [&str; 3] = ["disable", "prefer", "require"];

/// What is added where the address does not say it. The client would wait for minutes, or hours, for a server that is gone without a
/// word: its machine lost, or the network. So it is given up after 5 s of which nothing comes back, each time in seconds: a new
/// connection; one on which something was sent that nobody acknowledged; and one that is silent, where a probe is sent after 5 s and
/// again 5 s later. What the server thinks about for longer is not concerned, since its kernel answers for it. (The number of probes
/// is for systems other than Linux, where `tcp_user_timeout` is not known.) And the server's own lists show who is connected.
const ADDED: [(&str, &str); 6] = [
    ("connect_timeout", "5"),
    ("tcp_user_timeout", "5"),
    ("keepalives_idle", "5"),
    ("keepalives_interval", "5"),
    ("keepalives_retries", "2"),
    ("application_name", "executor"),
];

/// What stands for a secret in what others say of it.
const HIDDEN: &str = "…";

/// Where the server is and how to get in. It is never shown: it may hold a password.
pub struct Address {
    text: String,
    password: Option<String>,
}

/// What an address says, by the names of the settings, each decoded. Of those given twice the last counts.
struct Settings(Vec<(String, String)>);

/// How the address is written, which is how more is added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Url,
    Settings,
}

impl Address {
    /// Reads an address, and adds what every connection is opened with.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with its name; never a part of it.
    pub fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (form, settings) = match without_scheme(text) {
            Some(rest) => (Form::Url, of_url(rest)?),
            None if text.contains("://") => {
                return Err("begins with neither postgres:// nor postgresql://".to_owned());
            }
            None => (Form::Settings, of_settings(text)?),
        };
        settings.check()?;
        // Ours first: what the operator's own options say comes later, and counts.
        let options = match settings.get("options") {
            Some(more) => format!("{} {more}", store::POSTGRES_OPTIONS),
            None => store::POSTGRES_OPTIONS.to_owned(),
        };
        let mut added = vec![("options", options)];
        for (name, value) in ADDED {
            if settings.get(name).is_none() {
                added.push((name, value.to_owned()));
            }
        }
        Ok(Self {
            text: with(text, form, &added),
            password: settings.get("password").map(str::to_owned),
        })
    }

    /// For the host.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What somebody says of the address, without the address: some versions of Spin repeat it whole.
    pub fn hide_in(&self, text: &str) -> String {
        let text = text.replace(&self.text, HIDDEN);
        match &self.password {
            Some(password) if !password.is_empty() => text.replace(password, HIDDEN),
            _ => text,
        }
    }
}

impl Settings {
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn check(&self) -> Result<(), String> {
        if self
            .0
            .iter()
            .any(|(name, _)| !SETTINGS.contains(&name.as_str()))
        {
            return Err(format!(
                "has a setting that the host does not know; it knows {}",
                SETTINGS.join(", ")
            ));
        }
        let names_host = |name| self.get(name).is_some_and(|value| !value.is_empty());
        if !names_host("host") && !names_host("hostaddr") {
            return Err("names no host".to_owned());
        }
        match self.get("sslmode") {
            Some(mode) if !SSL_MODES.contains(&mode) => Err(format!(
                "has an sslmode that the host does not know; it knows {}, and checks certificates with prefer and require",
                SSL_MODES.join(", ")
            )),
            _ => Ok(()),
        }
    }
}

/// The address with more settings at its end.
fn with(text: &str, form: Form, added: &[(&str, String)]) -> String {
    let mut all = text.trim_end_matches('&').to_owned();
    for (name, value) in added {
        match form {
            Form::Url => {
                match parameters(&all) {
                    None => all.push('?'),
                    // The question mark is there, and nothing behind it.
                    Some("") => {}
                    Some(_) => all.push('&'),
                }
                let value = utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
                all.push_str(&format!("{name}={value}"));
            }
            Form::Settings => {
                let value = value.replace('\\', r"\\").replace('\'', r"\'");
                all.push_str(&format!(" {name}='{value}'"));
            }
        }
    }
    all
}

fn without_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgres://")
        .or_else(|| text.strip_prefix("postgresql://"))
}

/// What follows the first question mark of a URL that is not in its credentials.
fn parameters(url: &str) -> Option<&str> {
    let rest = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    rest.split_once('?').map(|(_, parameters)| parameters)
}

fn of_url(rest: &str) -> Result<Settings, String> {
    let mut settings = Vec::new();
    // As the client does: the credentials end at the first `@`, wherever it is.
    let rest = match rest.split_once('@') {
        Some((credentials, rest)) => {
            let (user, password) = match credentials.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (credentials, None),
            };
            settings.push(("user".to_owned(), decoded(user)?));
            if let Some(password) = password {
                settings.push(("password".to_owned(), decoded(password)?));
            }
            rest
        }
        None => rest,
    };
    if rest.contains('@') {
        return Err("has more than one @: in a name or password write %40".to_owned());
    }
    let (before, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, database) = before.split_once('/').unwrap_or((before, ""));
    settings.push(("host".to_owned(), decoded(hosts)?));
    settings.push(("dbname".to_owned(), decoded(database)?));
    for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
        let Some((name, value)) = parameter.split_once('=') else {
            return Err("has a parameter without a value".to_owned());
        };
        let (name, value) = (decoded(name)?, decoded(value)?);
        // An empty host before the path is none at all.
        if name == "host" {
            settings.retain(|(known, value)| known != "host" || !value.is_empty());
        }
        settings.push((name, value));
    }
    Ok(Settings(settings))
}

fn decoded(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8().map(Cow::into_owned);
    text.map_err(|_| "has percent signs that stand for no UTF-8".to_owned())
}

fn of_settings(text: &str) -> Result<Settings, String> {
    let mut rest = text.chars().peekable();
    let mut settings = Vec::new();
    loop {
        skip_blanks(&mut rest);
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| !c.is_whitespace() && *c != '=') {
            name.push(c);
        }
        if name.is_empty() && rest.peek().is_none() {
            return Ok(Settings(settings));
        }
        skip_blanks(&mut rest);
        if name.is_empty() || rest.next() != Some('=') {
            return Err(
                "is neither a URL, postgres://…, nor settings of the form name=value".to_owned(),
            );
        }
        skip_blanks(&mut rest);
        settings.push((name, value(&mut rest)?));
    }
}

fn skip_blanks(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|c| c.is_whitespace()).is_some() {}
}

/// One value: between single quotes, or up to the next blank; a backslash takes the next character as it is.
fn value(rest: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let quoted = rest.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    loop {
        match rest.next_if(|c| quoted || !c.is_whitespace()) {
            Some('\'') if quoted => return Ok(value),
            Some('\\') => value.extend(rest.next()),
            Some(c) => value.push(c),
            None if quoted => return Err("has a quoted value that does not end".to_owned()),
            None if value.is_empty() => return Err("has a setting without a value".to_owned()),
            None => return Ok(value),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Addresses as operators write them.
    use super::*;

    /// The setting of that name in what the host is given, read by the same rules.
    fn setting(address: &Address, name: &str) -> Option<String> {
        let settings = match without_scheme(address.as_str()) {
            Some(rest) => of_url(rest),
            None => of_settings(address.as_str()),
        };
        let settings = settings.expect("what the host is given can be read");
        settings.get(name).map(str::to_owned)
    }

    #[test]
    fn both_forms_get_the_options_of_every_connection() {
        for text in [
            "postgres://db.example.org",
            "postgres://db.example.org?",
            "postgresql://executor:secret@db.example.org:5433/executor",
            "postgres://executor@[::1]/executor?sslmode=disable&",
            "postgres:///executor?host=db.example.org",
            " postgres://a:1,b:2/executor?target_session_attrs=read-write\n",
            "host=db.example.org user=executor",
            "host = db.example.org password = 'it\\'s secret'",
            "hostaddr=127.0.0.1",
        ] {
            let address = Address::read(text).unwrap_or_else(|e| panic!("{text} {e}"));
            let options = setting(&address, "options");
            assert_eq!(options.as_deref(), Some(store::POSTGRES_OPTIONS), "{text}");
            for name in ["connect_timeout", "tcp_user_timeout", "keepalives_idle"] {
                let seconds = setting(&address, name);
                assert_eq!(seconds.as_deref(), Some("5"), "{name} of {text}");
            }
            assert!(
                address
                    .as_str()
                    .starts_with(text.trim_end_matches(['&', '?', '\n']).trim())
            );
        }
    }

    #[test]
    fn what_the_operator_says_counts() {
        for text in [
            "postgres://db/x?options=-c%20lock_timeout%3D1&connect_timeout=9&tcp_user_timeout=9",
            r"host=db options='-c lock_timeout=1' connect_timeout=9 tcp_user_timeout=9",
            r"host=db options=-c\ lock_timeout=1 connect_timeout=9 tcp_user_timeout=9",
        ] {
            let address = Address::read(text).expect(text);
            let expected = format!("{} -c lock_timeout=1", store::POSTGRES_OPTIONS);
            assert_eq!(setting(&address, "options"), Some(expected), "{text}");
            for name in ["connect_timeout", "tcp_user_timeout"] {
                let timeout = setting(&address, name);
                assert_eq!(timeout.as_deref(), Some("9"), "{name} of {text}");
            }
        }
    }

    #[test]
    fn unusable_addresses_are_refused_without_their_secrets() {
        for (text, says) in [
            ("mysql://u:secret@db/x", "postgres://"),
            ("executor", "neither a URL"),
            ("password=secret host", "neither a URL"),
            ("=secret", "neither a URL"),
            ("host=db password='secret", "does not end"),
            ("host=db password=", "without a value"),
            ("user=u password=secret", "names no host"),
            ("postgres://u:secret@/x", "names no host"),
            ("postgres://u:se@secret@db/x", "%40"),
            ("postgres://u:%ff@db", "UTF-8"),
            ("postgres://u:secret@db/x?sslmode", "without a value"),
            (
                "postgres://u:secret@db/x?sslmode=verify-full",
                "disable, prefer, require",
            ),
            (
                "postgres://u:secret@db/x?sslrootcert=secret",
                "it knows application_name",
            ),
            ("host=db secret=x", "it knows application_name"),
        ] {
            let Err(problem) = Address::read(text) else {
                panic!("{text} is taken");
            };
            assert!(problem.contains(says), "{text}: {problem}");
            assert!(!problem.contains("secret"), "{text}: {problem}");
        }
    }

    #[test]
    fn what_others_say_of_it_hides_it() {
        let address = Address::read("postgres://u:p%40ss@db/x").expect("an address");
        let said = format!("address {} is not permitted, nor is p@ss", address.as_str());
        assert_eq!(
            address.hide_in(&said),
            "address … is not permitted, nor is …"
        );
    }
}
