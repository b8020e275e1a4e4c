//! The command line: the flags of `spin up` that devhost follows, so that scripts can swap the two.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// How long running requests and ticks may go on after the first signal: a tick's budget is just under ten seconds.
pub const DEFAULT_DRAIN_SECONDS: u64 = 10;

/// Runs a Spin application without Spin.
#[derive(Debug, Parser)]
#[command(name = "devhost", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What devhost can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the application until a signal comes.
    Up(Up),
}

/// The flags of `devhost up`.
#[derive(Debug, Args)]
pub struct Up {
    /// The manifest, or the folder that holds a spin.toml.
    #[arg(short = 'f', long, default_value = "spin.toml")]
    pub from: PathBuf,
    /// Where HTTP is served; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:3000")]
    pub listen: SocketAddr,
    /// Runtime configuration: databases and TLS.
    #[arg(long)]
    pub runtime_config_file: Option<PathBuf>,
    /// Where databases and compiled code are kept [default: .spin beside the manifest].
    #[arg(long)]
    pub state_dir: Option<PathBuf>,
    /// Where compiled code is kept [default: compiled in the state folder].
    #[arg(long, env = "DEVHOST_COMPILED_DIR")]
    pub compiled_dir: Option<PathBuf>,
    /// Sets a variable: NAME=VALUE, or NAME=@FILE for the content of a file. May come many times.
    #[arg(long = "variable", value_name = "NAME=VALUE")]
    pub variables: Vec<String>,
    /// Read the folders of `files` where they are, as devhost always does.
    #[arg(long = "direct-mounts")]
    pub _direct_mounts: bool,
    /// Refuse queries of PostgreSQL that answer with no rows: Spin 4.0.0 to 4.0.2 never return from them.
    #[arg(long, env = "DEVHOST_REFUSE_EMPTY_ANSWERS")]
    pub refuse_empty_answers: bool,
    /// Swallow what the components print.
    #[arg(short, long)]
    pub quiet: bool,
    /// After the first SIGTERM or SIGINT, running requests and ticks have this long to finish.
    #[arg(long, default_value_t = DEFAULT_DRAIN_SECONDS)]
    pub drain_seconds: u64,
}
