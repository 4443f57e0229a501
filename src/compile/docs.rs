//! The tables of keys as a page, so that the page cannot differ from what is read.
