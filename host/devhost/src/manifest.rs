//! Reads the application manifest (`spin.toml`, version 2) as far as devhost runs it, and refuses the rest by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// A manifest that was read and checked: every trigger names a component that is there.
#[derive(Debug)]
pub struct Manifest {
    /// The folder that relative paths of the manifest start from.
    pub dir: PathBuf,
    /// `[variables]`, by name.
    pub variables: BTreeMap<String, VariableDeclaration>,
    /// `[[trigger.http]]` in the order of the manifest.
    pub http: Vec<HttpTrigger>,
    /// `[[trigger.cron]]` in the order of the manifest.
    pub cron: Vec<CronTrigger>,
    /// `[component.<id>]`, by id.
    pub components: BTreeMap<String, Component>,
}

/// One line of `[variables]`: either required or with a default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariableDeclaration {
    /// The value when nobody sets one.
    pub default: Option<String>,
    /// Somebody must set one.
    #[serde(default)]
    pub required: bool,
    /// Devhost never prints a value, secret or not.
    #[serde(default, rename = "secret")]
    _secret: bool,
    #[serde(default, rename = "description")]
    _description: Option<String>,
}

/// One `[[trigger.http]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTrigger {
    #[serde(default, rename = "id")]
    _id: Option<String>,
    /// `/path` for exactly this path, `/path/...` for it and everything below.
    pub route: String,
    /// The id of the component that answers.
    pub component: String,
    /// Only `{ type = "http" }`, which is the default.
    #[serde(default)]
    executor: Option<Executor>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Executor {
    r#type: String,
}

/// One `[[trigger.cron]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CronTrigger {
    #[serde(default, rename = "id")]
    _id: Option<String>,
    /// Six or seven fields, seconds first, in UTC.
    pub cron_expression: String,
    /// The id of the component that is called.
    pub component: String,
}

/// One `[component.<id>]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// The `.wasm` file, relative to the manifest.
    pub source: PathBuf,
    /// `scheme://host:port` patterns, which may hold `{{ variable }}`.
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<String>,
    /// Names of the databases that the component may open.
    #[serde(default)]
    pub sqlite_databases: Vec<String>,
    /// Folders that the guest may read, each at a path of its own. Spin's other form, of patterns, is refused.
    #[serde(default)]
    pub files: Vec<Folder>,
    /// The component's own variables: templates over the application's.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// The guest's environment variables.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default, rename = "description")]
    _description: Option<String>,
    #[serde(default, rename = "build")]
    _build: Option<toml::Table>,
    #[serde(default, rename = "tool")]
    _tool: Option<toml::Table>,
}

/// One of `files`: a folder of the host, which the guest sees as it is at any time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Where it is, relative to the manifest.
    pub source: PathBuf,
    /// Where the guest sees it: an absolute path.
    pub destination: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    spin_manifest_version: u32,
    #[serde(rename = "application")]
    _application: Application,
    #[serde(default)]
    variables: BTreeMap<String, VariableDeclaration>,
    #[serde(default)]
    trigger: Triggers,
    #[serde(default)]
    component: BTreeMap<String, Component>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Application {
    #[serde(rename = "name")]
    _name: String,
    #[serde(default, rename = "version")]
    _version: Option<String>,
    #[serde(default, rename = "description")]
    _description: Option<String>,
    #[serde(default, rename = "authors")]
    _authors: Vec<String>,
    #[serde(default, rename = "license")]
    _license: Option<String>,
    #[serde(default, rename = "tool")]
    _tool: Option<toml::Table>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Triggers {
    #[serde(default)]
    http: Vec<HttpTrigger>,
    #[serde(default)]
    cron: Vec<CronTrigger>,
}

impl Manifest {
    /// Reads and checks the manifest at `path`.
    ///
    /// # Errors
    /// The file cannot be read, is not a manifest of version 2, uses something that devhost does not offer (named in
    /// the error), or its parts do not fit together.
    pub fn load(path: &Path) -> Result<Manifest> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the manifest {}", path.display()))?;
        let dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Self::parse(&text, dir)
            .with_context(|| format!("cannot use the manifest {}", path.display()))
    }

    fn parse(text: &str, dir: PathBuf) -> Result<Manifest> {
        let document: Document =
            toml::from_str(text).context("a key is missing, wrong, or not supported by devhost")?;
        ensure!(
            document.spin_manifest_version == 2,
            "spin_manifest_version is {}, devhost reads only 2",
            document.spin_manifest_version
        );
        let manifest = Manifest {
            dir,
            variables: document.variables,
            http: document.trigger.http,
            cron: document.trigger.cron,
            components: document.component,
        };
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<()> {
        for (name, declaration) in &self.variables {
            ensure!(
                declaration.required != declaration.default.is_some(),
                "variable {name:?} needs either `required = true` or a `default`, and not both"
            );
        }
        ensure!(
            !self.http.is_empty() || !self.cron.is_empty(),
            "there is no [[trigger.http]] and no [[trigger.cron]]: nothing would ever run"
        );
        let mut routes = std::collections::BTreeSet::new();
        for trigger in &self.http {
            self.check_component(&trigger.component)?;
            check_route(&trigger.route)?;
            ensure!(
                routes.insert(&trigger.route),
                "two http triggers have the route {:?}",
                trigger.route
            );
            if let Some(executor) = &trigger.executor {
                ensure!(
                    executor.r#type == "http",
                    "route {:?}: executor {:?} is not supported by devhost",
                    trigger.route,
                    executor.r#type
                );
            }
        }
        for trigger in &self.cron {
            self.check_component(&trigger.component)?;
        }
        let folders = self
            .components
            .values()
            .flat_map(|component| &component.files);
        for Folder { destination, .. } in folders {
            ensure!(
                destination.starts_with('/'),
                "files: the destination {destination:?} does not start with '/'"
            );
        }
        Ok(())
    }

    fn check_component(&self, id: &str) -> Result<()> {
        if !self.components.contains_key(id) {
            bail!("a trigger names the component {id:?}, which is not in the manifest");
        }
        Ok(())
    }
}

fn check_route(route: &str) -> Result<()> {
    ensure!(
        route.starts_with('/'),
        "the route {route:?} does not start with '/'"
    );
    let fixed = route.strip_suffix("/...").unwrap_or(route);
    for segment in fixed.split('/') {
        ensure!(
            !segment.starts_with(':') && !segment.contains('*') && segment != "...",
            "the route {route:?} has a part {segment:?} that devhost does not support: only a last `/...` is"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = r#"
        spin_manifest_version = 2
        [application]
        name = "x"
        [[trigger.http]]
        route = "/..."
        component = "a"
        [component.a]
        source = "a.wasm"
    "#;

    fn error_of(text: &str) -> String {
        format!(
            "{:#}",
            Manifest::parse(text, PathBuf::new()).expect_err("the manifest is refused")
        )
    }

    #[test]
    fn smallest_manifest_is_read() {
        let manifest = Manifest::parse(SMALLEST, PathBuf::new()).unwrap();
        assert_eq!(manifest.http[0].component, "a");
    }

    #[test]
    fn unknown_keys_are_named() {
        let text = format!("{SMALLEST}\nkey_value_stores = [\"default\"]");
        assert!(error_of(&text).contains("key_value_stores"));
    }

    #[test]
    fn parts_that_do_not_fit_are_named() {
        let wrong = SMALLEST.replace("component = \"a\"", "component = \"b\"");
        assert!(error_of(&wrong).contains("\"b\""));
        let wrong = SMALLEST.replace("/...", "/:id");
        assert!(error_of(&wrong).contains(":id"));
        let wrong = format!("{SMALLEST}\n[variables]\nv = {{ secret = true }}");
        assert!(error_of(&wrong).contains("\"v\""));
        let wrong = SMALLEST.replace("version = 2", "version = 1");
        assert!(error_of(&wrong).contains("reads only 2"));
    }
}
