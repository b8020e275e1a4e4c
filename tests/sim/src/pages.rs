//! Full lists as an API server gives them that has very many objects: in many pages, each of which takes its time.

use localcluster::Request;
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::mutant::Mutant;
use crate::platform::Instance;
use crate::world::World;

/// How many objects a page of a full list is asked for, which tells it from other lists.
const WHOLE_PAGE: &str = "500";

/// How a history's full lists come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages {
    /// How many objects a page has.
    objects: usize,
    /// How long it takes, in milliseconds: so that the longest list ends within the time in which everything must be seen.
    takes_ms: i64,
}

impl Pages {
    /// Those of a seed.
    pub fn draw(chance: &mut Chance) -> Self {
        Self {
            objects: chance.pick(&[1, 2, 2, 3, 500]),
            takes_ms: chance.pick(&[0, 0, 200, 600]),
        }
    }
}

/// Makes a request for a page of a full list one for a small page; answers by how many milliseconds more it takes.
pub fn shorten(world: &World, request: &mut Request) -> i64 {
    let pages = world.pages.get();
    let limits = request.query.iter_mut();
    let limit = limits
        .filter(|(name, value)| name == "limit" && value == WHOLE_PAGE)
        .map(|(_, value)| value);
    let mut takes_ms = 0;
    for limit in limit {
        *limit = pages.objects.to_string();
        takes_ms = pages.takes_ms;
    }
    takes_ms
}

/// For a mutant: a list that goes on where another tick has left off has nothing more. With the answer's code, and that the request
/// is not carried out.
pub fn forgotten(
    world: &World,
    instance: &Instance,
    request: &Request,
) -> Option<(u16, Value, bool)> {
    let limit = world.pages.get().objects.to_string();
    if world.mutant != Some(Mutant::ListForgotten) || request.parameter("limit") != limit {
        return None;
    }
    if request.parameter("continue").is_empty() {
        instance.has_listed.set(true);
    }
    let empty = json!({"metadata": {"resourceVersion": "1"}, "items": []});
    (!instance.has_listed.get()).then_some((200, empty, false))
}

/// Makes every Job say that it belongs to this database.
pub fn take_for_ours(world: &World, answer: &mut localcluster::Response) {
    if let localcluster::Body::Bytes(bytes) = &mut answer.body
        && let Some(ours) = world.state("database")
    {
        let text = String::from_utf8_lossy(bytes);
        *bytes = text
            .replace("\"another\"", &format!("\"{ours}\""))
            .into_bytes();
    }
}
