//! The machines as tables, and the layer as its service sees it.

mod tables;
