//! The settings: read once, typed, each with its variable and default.

use std::time::Duration;

use domain::Quantity;
use jiff::SignedDuration;
use kubernetes::{ClientConfig, PodRules, ReadFile};

use crate::announce::Announced;
use crate::callers::Keyring;
use crate::pods;
use crate::webhooks::WebhookRules;

/// A tick shorter than this would spend its time on starting.
const MIN_TICK_BUDGET_SECONDS: f64 = 0.1;

/// A tick longer than this would keep one component instance for no gain.
const MAX_TICK_BUDGET_SECONDS: f64 = 300.0;

/// More at once than one namespace of a usual cluster can hold.
const MAX_MAX_RUNNING: u32 = 100_000;

/// A longer queue is no queue any more, but a store of work: it would take days.
const MAX_MAX_QUEUED: u32 = 10_000_000;

/// Records kept for longer than ten years are kept for ever, which is another wish.
pub const MAX_TTL_SECONDS: u32 = 10 * 365 * 24 * 3600;

/// The longest that the audit log is kept for, in days: ten years.
const MAX_AUDIT_RETENTION_DAYS: u32 = 3_650;

/// The settings of a deployment. The defaults stand in `spin.toml`, which declares the variables.
#[derive(Clone, Debug)]
pub struct Config {
    /// `kube_url`: where the API server is, `scheme://host:port`.
    pub kube_url: String,
    /// `kube_token`: bearer token for the API server; empty where a proxy authenticates.
    kube_token: Secret,
    /// `kube_token_file`: the file that holds that token instead, and is read for every request; empty for none.
    kube_token_file: Option<String>,
    /// What reads it.
    read_file: ReadFile,
    /// `kube_namespace`: the namespace that Jobs run in.
    pub kube_namespace: String,
    /// `default_image`: the image of submissions that name none.
    pub default_image: String,
    /// `allowed_images`: globs separated by commas or blanks; `*` allows every image.
    pub allowed_images: Vec<String>,
    /// `max_cpu`: the largest CPU a submission may ask for.
    pub max_cpu: Quantity,
    /// `max_memory`: the largest memory a submission may ask for.
    pub max_memory: Quantity,
    /// `max_ephemeral_storage`: the largest ephemeral storage a submission may ask for.
    pub max_ephemeral_storage: Quantity,
    /// `max_running`: how many executions have a Job at once.
    pub max_running: u32,
    /// `max_queued`: how many executions may wait for that at once; more are refused.
    pub max_queued: u32,
    /// `ttl_seconds`: how long the record of a finished execution is kept when its submission does not say.
    pub ttl_seconds: u32,
    /// `audit_retention_days`: how long records of the audit log are kept.
    pub audit_retention: SignedDuration,
    /// `kubernetes_events`: which steps of executions are told as Kubernetes Events: `none`, `notable` or `all`.
    pub kubernetes_events: Announced,
    /// `tick_budget_seconds`: how long one tick works; just under the cron's period.
    pub tick_budget: Duration,
    /// `tick_token`: bearer token of `POST /internal/tick`; empty leaves it to whoever may do everything.
    tick_token: Secret,
    /// `tokens`: a JSON object with the tokens of callers and the tenants that they are of; empty where nobody needs one.
    pub callers: Keyring,
    /// `metrics_token`: bearer token that reads `GET /metrics` and nothing else; empty for none.
    metrics_token: Secret,
    /// `webhook_secrets`: a JSON object from names to `whsec_<base64>`, the secrets that sign; empty for none.
    /// `webhook_allowed_hosts`: globs of inner hosts that may be told all the same, perhaps with `http://`.
    /// `webhook_pauses`: how long is waited after each failed attempt, in seconds; empty for a schedule of 24 hours.
    pub webhooks: WebhookRules,
    /// What holds for every pod. `pod_profile`: `restricted` or `baseline`. `pod_user`: user and group of a restricted
    /// script, `65532:65532`. `default_ephemeral_storage`: the disk of submissions that ask for none; empty for no limit.
    /// `pod_runtime_class`: its RuntimeClass, or empty. `pod_node_selector`: labels of its node, `key=value`, and
    /// `pod_tolerations`: taints that it puts up with, `key=value:Effect`, both separated by commas or blanks, or empty.
    pub pods: PodRules,
}

/// A text that never shows in a log.
#[derive(Clone, Default)]
struct Secret(Option<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() {
            "Secret(set)"
        } else {
            "Secret(unset)"
        })
    }
}

/// A variable has no usable value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the variable {variable} {problem}")]
pub struct ConfigError {
    /// Its name in the manifest.
    pub variable: &'static str,
    /// What is wrong with it, never its value.
    pub problem: String,
}

impl Config {
    /// Reads every setting by its variable's name.
    ///
    /// # Errors
    /// The first variable that is missing or has no usable value.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = |variable: &'static str| {
            lookup(variable)
                .map(|value| value.trim().to_owned())
                .ok_or_else(|| problem(variable, "is not set in the manifest"))
        };
        let required = |variable: &'static str| match text(variable)? {
            value if value.is_empty() => Err(problem(variable, "is empty")),
            value => Ok(value),
        };
        let secret = |variable: &'static str| {
            text(variable).map(|value| Secret(Some(value).filter(|v| !v.is_empty())))
        };
        let quantity = |variable: &'static str| {
            required(variable)?
                .parse::<Quantity>()
                .map_err(|e| problem(variable, &e.to_string()))
        };
        let kube_url = base_url(required("kube_url")?)?;
        let webhooks = WebhookRules::read(
            &text("webhook_secrets")?,
            &text("webhook_allowed_hosts")?,
            &text("webhook_pauses")?,
            &kube_url,
        );
        let kube_token = secret("kube_token")?;
        let kube_token_file = Some(text("kube_token_file")?).filter(|path| !path.is_empty());
        if kube_token.0.is_some() && kube_token_file.is_some() {
            return Err(problem("kube_token_file", "is set beside kube_token"));
        }
        Ok(Self {
            kube_url,
            kube_token,
            kube_token_file,
            read_file: no_files,
            kube_namespace: required("kube_namespace")?,
            default_image: required("default_image")?,
            allowed_images: globs(&required("allowed_images")?),
            max_cpu: quantity("max_cpu")?,
            max_memory: quantity("max_memory")?,
            max_ephemeral_storage: quantity("max_ephemeral_storage")?,
            max_running: count("max_running", &required("max_running")?, MAX_MAX_RUNNING)?,
            max_queued: count("max_queued", &required("max_queued")?, MAX_MAX_QUEUED)?,
            ttl_seconds: ttl_seconds(&required("ttl_seconds")?)?,
            audit_retention: days(
                "audit_retention_days",
                &required("audit_retention_days")?,
                MAX_AUDIT_RETENTION_DAYS,
            )?,
            kubernetes_events: Announced::from_name(&required("kubernetes_events")?)
                .ok_or_else(|| problem("kubernetes_events", "is none of none, notable, all"))?,
            tick_budget: tick_budget(&required("tick_budget_seconds")?)?,
            tick_token: secret("tick_token")?,
            callers: Keyring::read(&text("tokens")?).map_err(|wrong| problem("tokens", &wrong))?,
            metrics_token: secret("metrics_token")?,
            webhooks: webhooks.map_err(|(variable, wrong)| problem(variable, &wrong))?,
            pods: pods::read(text, problem)?,
        })
    }

    /// The bearer token that `POST /internal/tick` asks for, if any.
    pub fn tick_token(&self) -> Option<&str> {
        self.tick_token.0.as_deref()
    }

    /// The bearer token that reads `GET /metrics` and nothing else, if any.
    pub fn metrics_token(&self) -> Option<&str> {
        self.metrics_token.0.as_deref()
    }

    /// The same settings where files can be read, by that function.
    #[must_use]
    pub fn with_files(mut self, read: ReadFile) -> Self {
        self.read_file = read;
        self
    }

    /// The part of the settings that the Kubernetes client takes.
    pub(crate) fn kubernetes(&self) -> ClientConfig {
        let config = ClientConfig::new(
            self.kube_url.clone(),
            self.kube_namespace.clone(),
            self.kube_token.0.clone(),
        );
        match &self.kube_token_file {
            Some(path) => config.with_token_file(path, self.read_file),
            None => config,
        }
    }
}

fn no_files(_: &str) -> Result<String, String> {
    Err("there are no files here".to_owned())
}

fn problem(variable: &'static str, problem: &str) -> ConfigError {
    ConfigError {
        variable,
        problem: problem.to_owned(),
    }
}

fn base_url(url: String) -> Result<String, ConfigError> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    match rest.map(|r| r.trim_end_matches('/')) {
        Some(host) if !host.is_empty() => Ok(url.trim_end_matches('/').to_owned()),
        _ => Err(problem(
            "kube_url",
            "is not of the form http(s)://host:port",
        )),
    }
}

fn globs(list: &str) -> Vec<String> {
    list.split(|c: char| c == ',' || c.is_whitespace())
        .filter(|glob| !glob.is_empty())
        .map(str::to_owned)
        .collect()
}

fn count(variable: &'static str, text: &str, most: u32) -> Result<u32, ConfigError> {
    match text.parse::<u32>() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(problem(
            variable,
            &format!("is not a whole number from 1 to {most}"),
        )),
    }
}

fn days(variable: &'static str, text: &str, most: u32) -> Result<SignedDuration, ConfigError> {
    count(variable, text, most).map(|days| SignedDuration::from_hours(24 * i64::from(days)))
}

fn ttl_seconds(text: &str) -> Result<u32, ConfigError> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds <= MAX_TTL_SECONDS => Ok(seconds),
        _ => Err(problem(
            "ttl_seconds",
            &format!("is not a whole number from 0 to {MAX_TTL_SECONDS}"),
        )),
    }
}

fn tick_budget(text: &str) -> Result<Duration, ConfigError> {
    match text.parse::<f64>() {
        Ok(s) if (MIN_TICK_BUDGET_SECONDS..=MAX_TICK_BUDGET_SECONDS).contains(&s) => {
            Ok(Duration::from_secs_f64(s))
        }
        _ => Err(problem(
            "tick_budget_seconds",
            &format!("is not a number from {MIN_TICK_BUDGET_SECONDS} to {MAX_TICK_BUDGET_SECONDS}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    //! Reading the settings.
    use super::*;

    fn lookup(changed: &'static str, value: &'static str) -> impl Fn(&str) -> Option<String> {
        move |name| {
            let text = match name {
                name if name == changed => value,
                "kube_url" => "https://kubernetes.default.svc/",
                "kube_token" => "s3cret",
                "max_cpu" => "4",
                "max_memory" => "8Gi",
                "max_ephemeral_storage" => "16Gi",
                "max_running" | "max_queued" => "100",
                "ttl_seconds" => "0",
                "audit_retention_days" => "90",
                "kubernetes_events" => "notable",
                "tick_budget_seconds" => "9.6",
                "allowed_images" => "docker.io/*, ghcr.io/*",
                "kube_token_file" | "tick_token" | "tokens" | "metrics_token"
                | "webhook_secrets" | "webhook_pauses" => "",
                "pod_profile" => "restricted",
                "pod_user" => "65532:65532",
                "default_ephemeral_storage" => "4Gi",
                "pod_runtime_class" | "pod_node_selector" | "pod_tolerations" => "",
                _ => "x",
            };
            Some(text.to_owned())
        }
    }

    #[test]
    fn a_whole_set_is_read_and_hides_its_secrets() {
        let config = Config::read(lookup("", "")).expect("valid");
        assert_eq!(config.kube_url, "https://kubernetes.default.svc");
        assert_eq!(config.allowed_images, ["docker.io/*", "ghcr.io/*"]);
        assert_eq!(config.tick_token(), None);
        assert_eq!(config.tick_budget, Duration::from_millis(9600));
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn each_bad_value_names_its_variable() {
        for (name, value) in [
            ("kube_url", "kubernetes"),
            ("kube_url", "https://"),
            ("kube_namespace", " "),
            // Beside the token itself.
            ("kube_token_file", "/sa/token"),
            ("max_cpu", "lots"),
            ("max_running", "0"),
            ("max_running", "-1"),
            ("max_queued", "0"),
            ("max_queued", "10000001"),
            ("ttl_seconds", "30d"),
            ("ttl_seconds", "315360001"),
            ("audit_retention_days", "0"),
            ("kubernetes_events", "some"),
            ("audit_retention_days", "3651"),
            ("tick_budget_seconds", "NaN"),
            ("tick_budget_seconds", "1e9"),
            ("webhook_secrets", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            (
                "webhook_secrets",
                r#"{"a":"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}"#,
            ),
            (
                "webhook_secrets",
                r#"{"a b":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}"#,
            ),
            ("webhook_secrets", r#"{"a":7}"#),
            ("tokens", r#"{"tokens":[{"name":"MfKQ9","role":"run"}]}"#),
            ("webhook_pauses", "5 soon"),
            ("webhook_allowed_hosts", "ftp://example.org"),
            ("webhook_allowed_hosts", "example.org/path"),
            ("webhook_allowed_hosts", "example.org:8080"),
            ("pod_profile", "privileged"),
        ] {
            let error = Config::read(lookup(name, value)).expect_err(value);
            assert_eq!(error.variable, name);
            assert!(!error.to_string().contains("MfKQ9"), "{error}");
        }
        assert!(Config::read(|_| None).is_err());
    }
}
