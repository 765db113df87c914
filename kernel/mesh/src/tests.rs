//! The peers machine told and expected by name, without a node around it.
