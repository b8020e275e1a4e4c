//! What the configuration says of every pod: its rights, its disk, and where it may run.

use std::collections::BTreeMap;

use domain::Quantity;
use kubernetes::{PodProfile, PodRules, Toleration};

/// The effects that a taint may have.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// The longest prefix of a label's name, and the longest name of an object, in characters.
const NAME_LIMIT: usize = 253;

/// The longest name, and the longest value, of a label, in characters.
const LABEL_LIMIT: usize = 63;

/// Reads the rules by the variables' names.
///
/// # Errors
/// The variable, and what is wrong with its value.
pub(crate) fn read<E>(
    text: impl Fn(&'static str) -> Result<String, E>,
    problem: impl Fn(&'static str, &str) -> E,
) -> Result<PodRules, E> {
    let read = |variable: &'static str| text(variable);
    let (user, group) = user_and_group(&read("pod_user")?).ok_or_else(|| {
        problem(
            "pod_user",
            "is not a user and a group by numbers above 0, as in 65532:65532",
        )
    })?;
    let profile = match &*read("pod_profile")? {
        "restricted" => PodProfile::Restricted,
        "baseline" => PodProfile::Baseline,
        _ => {
            return Err(problem(
                "pod_profile",
                "is neither `restricted` nor `baseline`",
            ));
        }
    };
    let class = read("pod_runtime_class")?;
    if !class.is_empty() && !is_object_name(&class) {
        return Err(problem("pod_runtime_class", "is no name of a RuntimeClass"));
    }
    Ok(PodRules {
        profile,
        user,
        group,
        disk: disk(&read("default_ephemeral_storage")?)
            .map_err(|wrong| problem("default_ephemeral_storage", &wrong))?,
        runtime_class: Some(class).filter(|class| !class.is_empty()),
        node_selector: node_selector(&read("pod_node_selector")?).ok_or_else(|| {
            problem(
                "pod_node_selector",
                "is not a list of labels such as pool=runs",
            )
        })?,
        tolerations: words(&read("pod_tolerations")?)
            .map(toleration)
            .collect::<Option<_>>()
            .ok_or_else(|| {
                problem(
                    "pod_tolerations",
                    "is not a list of taints such as runs=yes:NoSchedule",
                )
            })?,
    })
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| !word.is_empty())
}

/// `user:group`, neither of them root.
fn user_and_group(text: &str) -> Option<(i64, i64)> {
    let (user, group) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        // Kubernetes takes them up to the largest i32.
        let number = text.parse::<i32>().ok().filter(|number| *number > 0);
        number.filter(|_| digits).map(i64::from)
    };
    Some((number(user)?, number(group)?))
}

/// A quantity of whole bytes; empty is none.
fn disk(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let quantity = text.parse::<Quantity>().map_err(|e| e.to_string())?;
    if quantity.is_zero() || !quantity.is_whole() {
        return Err("is not a whole number of bytes, 1 or more".to_owned());
    }
    Ok(Some(text.to_owned()))
}

fn node_selector(list: &str) -> Option<BTreeMap<String, String>> {
    let label = |word: &str| {
        let (key, value) = word.split_once('=')?;
        let fine = is_label_key(key) && is_label_value(value);
        fine.then(|| (key.to_owned(), value.to_owned()))
    };
    words(list).map(label).collect()
}

/// A taint as `kubectl taint` writes it, `key=value:Effect`; without `=value` any value will do, without `:Effect` any effect.
fn toleration(word: &str) -> Option<Toleration> {
    let (taint, effect) = match word.split_once(':') {
        Some((taint, effect)) => (taint, Some(effect)),
        None => (word, None),
    };
    let (key, value) = match taint.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (taint, None),
    };
    let fine = is_label_key(key)
        && value.is_none_or(is_label_value)
        && effect.is_none_or(|effect| EFFECTS.contains(&effect));
    let operator = if value.is_some() { "Equal" } else { "Exists" };
    fine.then(|| Toleration {
        key: Some(key.to_owned()),
        operator: Some(operator.to_owned()),
        value: value.map(str::to_owned),
        effect: effect.map(str::to_owned),
        toleration_seconds: None,
    })
}

fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.is_none_or(is_object_name) && !name.is_empty() && is_label_value(name)
}

fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let ends_well = [bytes.first(), bytes.last()]
        .into_iter()
        .flatten()
        .all(u8::is_ascii_alphanumeric);
    bytes.len() <= LABEL_LIMIT && ends_well && bytes.iter().all(inner)
}

/// A name as in DNS: parts of small letters, digits and dashes, with dots between.
fn is_object_name(name: &str) -> bool {
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        let ends = [bytes.first(), bytes.last()];
        bytes.iter().all(inner) && ends.iter().all(|end| end.is_some_and(|byte| *byte != b'-'))
    };
    name.len() <= NAME_LIMIT && name.split('.').all(part)
}

#[cfg(test)]
mod tests {
    //! Reading the rules.
    use super::*;

    fn read_with(changed: &str, value: &str) -> Result<PodRules, (&'static str, String)> {
        read(
            |name| {
                let text = match name {
                    name if name == changed => value,
                    "pod_profile" => "restricted",
                    "pod_user" => "65532:65532",
                    _ => "",
                };
                Ok(text.to_owned())
            },
            |variable, wrong| (variable, wrong.to_owned()),
        )
    }

    #[test]
    fn the_smallest_rules_are_those_of_a_restricted_pod() {
        assert_eq!(read_with("", ""), Ok(PodRules::default()));
    }

    #[test]
    fn each_setting_is_read() {
        let rules = |name, value| read_with(name, value).expect(value);
        assert_eq!(
            rules("pod_profile", "baseline").profile,
            PodProfile::Baseline
        );
        let of_pool = rules("pod_user", "1000:2000");
        assert_eq!((of_pool.user, of_pool.group), (1000, 2000));
        let disk = rules("default_ephemeral_storage", "4Gi").disk;
        assert_eq!(disk.as_deref(), Some("4Gi"));
        let class = rules("pod_runtime_class", "gvisor").runtime_class;
        assert_eq!(class.as_deref(), Some("gvisor"));
        assert_eq!(
            rules("pod_node_selector", "pool=runs, example.org/zone=")
                .node_selector
                .into_iter()
                .collect::<Vec<_>>(),
            [("example.org/zone", ""), ("pool", "runs")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
        let tolerated =
            |key: &str, operator: &str, value: Option<&str>, effect: Option<&str>| Toleration {
                key: Some(key.to_owned()),
                operator: Some(operator.to_owned()),
                value: value.map(str::to_owned),
                effect: effect.map(str::to_owned),
                toleration_seconds: None,
            };
        assert_eq!(
            rules("pod_tolerations", "runs=yes:NoSchedule,spot:NoExecute any").tolerations,
            [
                tolerated("runs", "Equal", Some("yes"), Some("NoSchedule")),
                tolerated("spot", "Exists", None, Some("NoExecute")),
                tolerated("any", "Exists", None, None),
            ]
        );
    }

    #[test]
    fn each_bad_value_names_its_variable() {
        for (name, value) in [
            ("pod_profile", "privileged"),
            ("pod_profile", ""),
            ("pod_user", "0:65532"),
            ("pod_user", "65532:0"),
            ("pod_user", "65532"),
            ("pod_user", "+1:1"),
            ("pod_user", "nobody:nogroup"),
            ("pod_user", "2147483648:1"),
            ("default_ephemeral_storage", "lots"),
            ("default_ephemeral_storage", "0"),
            ("default_ephemeral_storage", "500m"),
            ("pod_runtime_class", "gVisor"),
            ("pod_runtime_class", "-"),
            ("pod_node_selector", "pool"),
            ("pod_node_selector", "=runs"),
            ("pod_node_selector", "pool=a b=c=d"),
            ("pod_tolerations", "runs:Never"),
            ("pod_tolerations", ":NoSchedule"),
            ("pod_tolerations", "a/b/c"),
        ] {
            let (variable, _) = read_with(name, value).expect_err(value);
            assert_eq!(variable, name, "{value}");
        }
    }
}
