"""Events of many contacts fetched by taskiq workers."""
