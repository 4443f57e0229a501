//! How clients reach us.
