//! `resources`: what the container may use.

use domain::{Quantity, Resources};
use serde_json::Value;

use super::reader::{Object, Reader, kind_of};
use crate::limits::{DEFAULT_CPU, DEFAULT_MEMORY, MIN_MEMORY};
use crate::problem::shortened;

/// The resources, with their defaults, each at most the configured maximum.
pub fn resources(object: &mut Object, most: &Resources, reader: &mut Reader) -> Resources {
    let mut resources = Resources {
        cpu: default(DEFAULT_CPU, &most.cpu),
        memory: default(DEFAULT_MEMORY, &most.memory),
        ephemeral_storage: None,
    };
    let Some(mut given) = object.object("resources", reader) else {
        return resources;
    };
    given.refuse_unknown(&["cpu", "memory", "ephemeralStorage"], reader);
    let cpu = |q: &Quantity| {
        let good = !q.is_zero() && q.is_whole_millis();
        (!good).then(|| "must be a whole number of thousandths, 1m or more".to_owned())
    };
    if let Some(cpu) = quantity(&mut given, "cpu", Some(&most.cpu), cpu, reader) {
        resources.cpu = cpu;
    }
    let memory = |q: &Quantity| {
        let least = MIN_MEMORY.parse::<Quantity>();
        let good = q.is_whole() && least.is_ok_and(|least| *q >= least);
        (!good).then(|| format!("must be a whole number of bytes, {MIN_MEMORY} or more"))
    };
    if let Some(memory) = quantity(&mut given, "memory", Some(&most.memory), memory, reader) {
        resources.memory = memory;
    }
    let disk = |q: &Quantity| {
        let good = !q.is_zero() && q.is_whole();
        (!good).then(|| "must be a whole number of bytes, 1 or more".to_owned())
    };
    let most_disk = most.ephemeral_storage.as_ref();
    resources.ephemeral_storage = quantity(&mut given, "ephemeralStorage", most_disk, disk, reader);
    resources
}

/// The default, or the maximum where that is less. The defaults are quantities; a test reads them.
fn default(text: &str, most: &Quantity) -> Quantity {
    match text.parse::<Quantity>() {
        Ok(quantity) if quantity <= *most => quantity,
        _ => most.clone(),
    }
}

/// Takes a quantity, written as a string or, as Kubernetes has it too, as a number.
fn quantity(
    object: &mut Object,
    name: &str,
    most: Option<&Quantity>,
    wrong: impl Fn(&Quantity) -> Option<String>,
    reader: &mut Reader,
) -> Option<Quantity> {
    let text = match object.take(name)? {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        other => {
            let detail = format!(
                "must be a quantity such as \"250m\", \"2\" or \"128Mi\", not {}",
                kind_of(&other)
            );
            reader.add(object.pointer(name), detail);
            return None;
        }
    };
    let told = match text.parse::<Quantity>() {
        Err(error) => Err(error.to_string()),
        Ok(quantity) => match (wrong(&quantity), most) {
            (Some(wrong), _) => Err(wrong),
            (None, Some(most)) if quantity > *most => Err(format!(
                "is {}; the configured maximum is {most}",
                shortened(&text)
            )),
            _ => Ok(quantity),
        },
    };
    told.map_err(|detail| reader.add(object.pointer(name), detail))
        .ok()
}
