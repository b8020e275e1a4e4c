//! Lines on stderr: the host's own, and the guests' output, each with the name of who says it.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// A guest may write this many bytes at once; more comes in several writes.
const WRITE_PERMIT_BYTES: usize = 64 * 1024;

/// A line without an end is printed in parts of this size, so that no guest grows the host without bound.
const LINE_LIMIT_BYTES: usize = 64 * 1024;

/// Prints one line as `[who] text`.
pub fn line(who: &str, text: &str) {
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(std::io::stderr().lock(), "[{who}] {text}");
}

/// A guest's stdout or stderr: whole lines go to the host's stderr with the component's id before them.
#[derive(Clone)]
pub struct GuestOutput(Arc<Mutex<Buffer>>);

struct Buffer {
    component: Arc<str>,
    bytes: Vec<u8>,
    quiet: bool,
}

impl GuestOutput {
    /// An output of the component; with `quiet` it swallows everything.
    pub fn new(component: Arc<str>, quiet: bool) -> GuestOutput {
        GuestOutput(Arc::new(Mutex::new(Buffer {
            component,
            bytes: Vec::new(),
            quiet,
        })))
    }

    fn push(&self, bytes: &[u8]) {
        let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.quiet {
            return;
        }
        buffer.bytes.extend_from_slice(bytes);
        while let Some(end) = buffer.bytes.iter().position(|byte| *byte == b'\n') {
            let rest = buffer.bytes.split_off(end + 1);
            let mut whole = std::mem::replace(&mut buffer.bytes, rest);
            whole.pop();
            line(&buffer.component, &String::from_utf8_lossy(&whole));
        }
        if buffer.bytes.len() >= LINE_LIMIT_BYTES {
            buffer.print_rest();
        }
    }
}

impl Buffer {
    fn print_rest(&mut self) {
        let rest = std::mem::take(&mut self.bytes);
        line(&self.component, &String::from_utf8_lossy(&rest));
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.print_rest();
        }
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only WASI 0.3 guests ask for this one, and devhost runs none.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_PERMIT_BYTES)
    }
}
