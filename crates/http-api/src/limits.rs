//! Every limit of the HTTP API, with its unit and its reason.

use std::time::Duration;

/// One KiB, in bytes.
const KIB: usize = 1024;

/// One MiB, in bytes.
const MIB: usize = 1024 * KIB;

/// Larger request bodies are refused with 413. JSON may write each byte as six (`\u0001`), so the largest valid
/// request is six times script, files, args and env together, about 13.2 MiB: nothing valid is refused for its size.
pub const MAX_BODY_BYTES: usize = 16 * MIB;

/// Larger batches are refused with 413. Each execution of the largest number has 32 KiB; more in one transaction would
/// keep every other writer waiting, and a component holds a batch several times over while it checks and stores it.
pub const MAX_BATCH_BODY_BYTES: usize = 16 * MIB;

/// How many executions one batch may have: one transaction of about three statements each.
pub const MAX_BATCH_ITEMS: usize = 500;

/// How much of a too large body is still read and thrown away, so that a client which writes all before it reads
/// sees the 413 and not a broken connection.
pub const MAX_DRAINED_BYTES: usize = 32 * MIB;

/// How deep JSON may nest. The deepest valid request has three levels, in a batch five.
pub const MAX_JSON_DEPTH: usize = 16;

/// At most so many errors are listed in one problem; the rest is counted.
pub const MAX_LISTED_ERRORS: usize = 100;

/// Names and values from the request are cut to so many characters where an error repeats them.
pub const MAX_ECHO_CHARS: usize = 80;

/// The script, in bytes: it must fit into one Kubernetes object, whose limit is 1 MiB.
pub const MAX_SCRIPT_BYTES: usize = MIB;

/// All files together, decoded, in bytes: with their names and base64 they must fit into one Kubernetes object.
pub const MAX_FILES_BYTES: usize = 700 * KIB;

/// How many files: each is one item of a volume in the pod's specification.
pub const MAX_FILES: usize = 256;

/// The path of one file, in bytes; well under Linux' PATH_MAX of 4096 with the folder in front of it.
pub const MAX_FILE_PATH_BYTES: usize = 1024;

/// One segment of a file's path, in bytes (Linux' NAME_MAX).
pub const MAX_PATH_SEGMENT_BYTES: usize = 255;

/// One argument, or one `NAME=value`, in bytes, without the closing NUL: Linux' MAX_ARG_STRLEN is 128 KiB with it.
pub const MAX_ARGUMENT_BYTES: usize = 128 * KIB - 1;

/// How often an execution may be tried beyond the first time: with the longest pauses that is over within minutes of its
/// clocks, and each attempt's log is kept.
pub const MAX_RETRIES: u32 = 10;

/// How many strings `args` may have.
pub const MAX_ARGS: usize = 1024;

/// All of `args` together, in bytes: the Job must fit into etcd's request of 1.5 MiB.
pub const MAX_ARGS_BYTES: usize = 256 * KIB;

/// How many strings `interpreter` may have.
pub const MAX_INTERPRETER: usize = 64;

/// How many environment variables.
pub const MAX_ENV: usize = 512;

/// All environment variables together, names included, in bytes: the Job must fit into etcd's request of 1.5 MiB.
pub const MAX_ENV_BYTES: usize = 256 * KIB;

/// The highest priority, and below zero the lowest: levels enough for people to tell apart.
pub const MAX_PRIORITY: i32 = 100;

/// How many labels.
pub const MAX_LABELS: usize = 16;

/// The name of a label, in characters.
pub const MAX_LABEL_KEY_CHARS: usize = 128;

/// The value of a label, in characters.
pub const MAX_LABEL_VALUE_CHARS: usize = 256;

/// Less memory than this (6 MiB) starts no container: the runtime's own start-up counts against the limit.
pub const MIN_MEMORY: &str = "6Mi";

/// What an execution gets of CPU when it asks for nothing; less where the configured maximum is less.
pub const DEFAULT_CPU: &str = "500m";

/// What an execution gets of memory when it asks for nothing; less where the configured maximum is less.
pub const DEFAULT_MEMORY: &str = "256Mi";

/// The longest queue clock, in seconds: a week.
pub const MAX_QUEUE_SECONDS: u32 = 604_800;

/// The longest start clock, in seconds: a day.
pub const MAX_START_SECONDS: u32 = 86_400;

/// The longest run clock, in seconds: a week.
pub const MAX_RUN_SECONDS: u32 = 604_800;

/// The longest grace, in seconds: an hour.
pub const MAX_GRACE_SECONDS: u32 = 3_600;

/// The longest name of an image without tag and digest, in bytes, as registries have it.
pub const MAX_IMAGE_NAME_BYTES: usize = 255;

/// The longest image reference: name, tag and a SHA-512 digest.
pub const MAX_IMAGE_BYTES: usize = 1024;

/// The longest Idempotency-Key, in bytes; one character is one byte there.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

/// The longest wait for an end, in seconds: proxies cut connections that are quiet for longer.
pub const MAX_WAIT_SECONDS: u32 = 60;

/// Executions on a page when the query does not say.
pub const DEFAULT_PAGE_ITEMS: u32 = 50;

/// The most executions on a page.
pub const MAX_PAGE_ITEMS: u32 = 200;

/// The most lines that `tail` may ask for; all that is kept has fewer.
pub const MAX_TAIL_LINES: u32 = 10_000_000;

/// The longest `sinceSeconds`: longer than any execution can run.
pub const MAX_SINCE_SECONDS: u32 = 31_536_000;

/// The longest budget that a caller may give to one tick, in seconds.
pub const MAX_TICK_SECONDS: u32 = 300;

/// How long a stream of events is silent at most: proxies cut what is silent for a minute or half of one, and a write is
/// what shows that the reader has gone.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// When to come again while the queue is full, in seconds: by then some of it is done, and those who wait do not ask so often that
/// they keep others from being answered.
pub const QUEUE_FULL_RETRY_SECONDS: &str = "5";

/// The body of a request of administrators: some names and times.
pub const MAX_ADMIN_BODY_BYTES: usize = 64 * KIB;

/// What a token is called, in characters: for people, who list them.
pub const MAX_TOKEN_NAME_CHARS: usize = 64;
