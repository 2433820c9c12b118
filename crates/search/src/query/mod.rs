//! Queries: as they are written, as they are understood, and as the index answers them.

mod ast;
mod compile;
mod deadline;
mod parse;
mod target;
mod wanted;

pub(crate) use ast::{Ast, Clauses};
pub(crate) use compile::Compiler;
pub(crate) use deadline::{Cut, Limited};
pub(crate) use parse::parse;
pub(crate) use target::Target;
pub(crate) use wanted::Wanted;
