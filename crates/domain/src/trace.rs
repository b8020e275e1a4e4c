//! The trace that an execution belongs to, as W3C's Trace Context tells it: <https://www.w3.org/TR/trace-context/>.

use std::fmt;

/// The length of a `traceparent` of version 00, in bytes.
const TRACEPARENT_BYTES: usize = 55;

/// Where a caller's request stands in a trace: what its header `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace: u128,
    /// The caller's own span, under which the request stands; never 0.
    pub parent: u64,
    /// Flags; the lowest bit says that the caller may have recorded its part.
    pub flags: u8,
}

impl TraceContext {
    /// Reads a `traceparent` (section 3.2). Of a version that is not known here, which may have more at its end, the part that
    /// every version has. None where it is malformed: whoever gets such a one begins a trace of its own.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, rest) = (text.get(..2)?, text.get(2..TRACEPARENT_BYTES)?);
        let more = text.get(TRACEPARENT_BYTES..)?;
        let fits = match version {
            "00" => more.is_empty(),
            "ff" => false,
            _ => more.is_empty() || more.starts_with('-'),
        };
        let mut parts = rest.strip_prefix('-')?.split('-');
        let (trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?);
        let lengths = [version.len(), trace.len(), parent.len(), flags.len()];
        let is_hex = |part: &str| {
            let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            part.bytes().all(digit)
        };
        let all_hex = [version, trace, parent, flags].into_iter().all(is_hex);
        if !fits || lengths != [2, 32, 16, 2] || !all_hex || parts.next().is_some() {
            return None;
        }
        let context = Self {
            trace: u128::from_str_radix(trace, 16).ok()?,
            parent: u64::from_str_radix(parent, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        (context.trace != 0 && context.parent != 0).then_some(context)
    }
}

/// As a `traceparent` of version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace,
            parent,
            flags,
        } = self;
        write!(f, "00-{trace:032x}-{parent:016x}-{flags:02x}")
    }
}

#[cfg(test)]
mod tests {
    //! The specification's own example, and what it forbids.
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_read_is_written() {
        let read = TraceContext::parse(EXAMPLE).expect("it is well-formed");
        assert_eq!(read.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((read.parent, read.flags), (0x00f0_67aa_0ba9_02b7, 1));
        assert_eq!(read.to_string(), EXAMPLE);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = EXAMPLE.replacen("00", "cc", 1);
        for text in [later.clone(), format!("{later}-what-comes-then")] {
            let read = TraceContext::parse(&text).expect("it is well-formed");
            assert_eq!(read.to_string(), EXAMPLE, "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_none() {
        for wrong in [
            String::new(),
            "00".to_owned(),
            EXAMPLE.to_uppercase(),
            EXAMPLE.replacen("00", "ff", 1),
            EXAMPLE.replacen("00", "0g", 1),
            EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            EXAMPLE.replace("00f067aa0ba902b7", &"0".repeat(16)),
            EXAMPLE.replace("-01", "-+1"),
            EXAMPLE.replacen('-', "", 1),
            format!("{EXAMPLE}-"),
            format!("{EXAMPLE}0"),
            format!("{}0", EXAMPLE.replacen("00", "cc", 1)),
            format!(" {EXAMPLE}"),
            EXAMPLE.replace("4bf9", "4b-9"),
            EXAMPLE.replace("4bf9", "4bé"),
        ] {
            assert_eq!(TraceContext::parse(&wrong), None, "{wrong}");
        }
    }
}
