//! The 23_karras notebook.
fn main() {}
