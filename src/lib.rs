//! One loop, many clients.
pub mod net;
pub mod proto;
pub mod services;

pub use net::{
    Bound, Counters, EndpointId, Handle, HandleError, Limits, Mio, Server, Sys, Turn, WhenFull,
};
pub use proto::conn::{Life, OutputLimits};
pub use proto::framing::{
    AnyFraming, ConfigError, Decoded, Encode, EncodeError, Endian, FrameError, Framing,
    LengthField, LineEnd, Lines, MAX_MESSAGE, Pair, Raw, Rest, SpecProblem, parse_size,
};
pub use proto::service::{Audience, CloseReason, ConnId, Context, PeerAddr, Service, Traffic};
