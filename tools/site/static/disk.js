// A page that is opened from the disk may not read others, so the search shows titles there, without their lines.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
