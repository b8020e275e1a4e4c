//! The application's variables: where their values come from, `{{ templates }}` over them, and what each component sees.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use crate::manifest::VariableDeclaration;

/// Prefix of the environment variables that set variables: `SPIN_VARIABLE_KUBE_URL` sets `kube_url`.
pub const ENVIRONMENT_PREFIX: &str = "SPIN_VARIABLE_";

/// Every variable of the application with its value.
#[derive(Debug)]
pub struct Variables(BTreeMap<String, String>);

/// Why a component does not get a variable.
#[derive(Debug, PartialEq, Eq)]
pub enum GetError {
    /// The name breaks the rules for names.
    InvalidName(String),
    /// The component has no variable of this name.
    Undefined(String),
}

impl Variables {
    /// Finds the value of each declared variable: `settings` (from `--variable`), then the environment, then the default.
    ///
    /// # Errors
    /// Names all required variables without a value; a name that breaks the rules; a setting that nobody declared.
    pub fn resolve(
        declarations: &BTreeMap<String, VariableDeclaration>,
        settings: &BTreeMap<String, String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Variables> {
        for name in settings.keys() {
            ensure!(
                declarations.contains_key(name),
                "--variable sets {name:?}, which the manifest does not declare"
            );
        }
        let mut values = BTreeMap::new();
        let mut missing = Vec::new();
        for (name, declaration) in declarations {
            if let Err(reason) = check_name(name) {
                bail!("the manifest's variable {reason}");
            }
            let from_environment = || {
                environment(&format!(
                    "{ENVIRONMENT_PREFIX}{}",
                    name.to_ascii_uppercase()
                ))
            };
            let value = settings.get(name).cloned();
            match value
                .or_else(from_environment)
                .or(declaration.default.clone())
            {
                Some(value) => {
                    values.insert(name.clone(), value);
                }
                None => missing.push(name.as_str()),
            }
        }
        ensure!(
            missing.is_empty(),
            "no value for the required variable(s) {}: set them by --variable NAME=VALUE or {ENVIRONMENT_PREFIX}<NAME>",
            missing.join(", ")
        );
        Ok(Variables(values))
    }

    /// Replaces each `{{ name }}` of `template` by the variable's value.
    ///
    /// # Errors
    /// A bracket is left open, or a name is not declared.
    pub fn expand(&self, template: &str) -> Result<String> {
        let mut result = String::new();
        let mut rest = template;
        while let Some((literal, after)) = rest.split_once("{{") {
            let (name, after) = after
                .split_once("}}")
                .with_context(|| format!("template {template:?} has `{{{{` without `}}}}`"))?;
            let name = name.trim();
            let value = self.0.get(name).with_context(|| {
                format!("template {template:?} uses the unknown variable {name:?}")
            })?;
            result.push_str(literal);
            result.push_str(value);
            rest = after;
        }
        ensure!(
            !rest.contains("}}"),
            "template {template:?} has `}}}}` without `{{{{`"
        );
        result.push_str(rest);
        Ok(result)
    }

    /// The variables of one component: its templates, expanded.
    ///
    /// # Errors
    /// As [`Variables::expand`], and for a name that breaks the rules.
    pub fn of_component(
        &self,
        templates: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>> {
        templates
            .iter()
            .map(|(name, template)| {
                if let Err(reason) = check_name(name) {
                    bail!("variable {reason}");
                }
                Ok((name.clone(), self.expand(template)?))
            })
            .collect()
    }
}

/// What a component gets when it asks for the variable `name`.
///
/// # Errors
/// See [`GetError`].
pub fn get(component: &BTreeMap<String, String>, name: &str) -> Result<String, GetError> {
    check_name(name).map_err(GetError::InvalidName)?;
    component
        .get(name)
        .cloned()
        .ok_or_else(|| GetError::Undefined(format!("the component has no variable {name:?}")))
}

/// Reads the values of `--variable`: `name=value`, or `name=@file` for the content of a file.
///
/// # Errors
/// There is no `=`, or the file cannot be read.
pub fn parse_settings(arguments: &[String]) -> Result<BTreeMap<String, String>> {
    arguments
        .iter()
        .map(|argument| {
            let (name, value) = argument
                .split_once('=')
                .with_context(|| format!("--variable {argument:?} is not NAME=VALUE"))?;
            let value = match value.strip_prefix('@') {
                Some(path) => std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {path:?} for the variable {name:?}"))?,
                None => value.to_owned(),
            };
            Ok((name.to_owned(), value))
        })
        .collect()
}

/// Names are lower-case letters, digits and single underscores; a letter comes first and no underscore last.
fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(format!("{name:?} must start with a lower-case letter"));
    }
    if !name.chars().all(fits) {
        return Err(format!(
            "{name:?} may hold only lower-case letters, digits and underscores"
        ));
    }
    if name.ends_with('_') || name.contains("__") {
        return Err(format!(
            "{name:?} may hold underscores only singly and between others"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declarations() -> BTreeMap<String, VariableDeclaration> {
        toml::from_str("url = { default = \"d\" }\ntoken = { required = true, secret = true }")
            .unwrap()
    }

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn a_setting_beats_the_environment_beats_the_default() {
        let environment = |name: &str| (name == "SPIN_VARIABLE_TOKEN").then(|| "e".to_owned());
        let variables = Variables::resolve(&declarations(), &settings(&[]), environment).unwrap();
        assert_eq!(variables.expand("{{ url }}-{{token}}").unwrap(), "d-e");
        let variables =
            Variables::resolve(&declarations(), &settings(&[("token", "s")]), environment).unwrap();
        assert_eq!(variables.expand("<{{ token }}>").unwrap(), "<s>");
    }

    #[test]
    fn missing_and_undeclared_ones_are_named() {
        let error = Variables::resolve(&declarations(), &settings(&[]), |_| None).unwrap_err();
        assert!(error.to_string().contains("token"));
        let error =
            Variables::resolve(&declarations(), &settings(&[("x", "1")]), |_| None).unwrap_err();
        assert!(error.to_string().contains("\"x\""));
    }

    #[test]
    fn bad_templates_are_refused() {
        let variables =
            Variables::resolve(&declarations(), &settings(&[("token", "t")]), |_| None).unwrap();
        for bad in ["{{ url", "url }}", "{{ nothing }}", "{{}}"] {
            assert!(variables.expand(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_follow_the_rules() {
        for good in ["a", "a1", "a_b"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "1a", "_a", "a_", "a__b", "a-b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
