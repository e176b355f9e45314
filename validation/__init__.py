"""Theory against simulation: studies, the claims that judge them, and the report."""
