# Every target does all of its own set-up, in .venv; tools/course.py does the work (on Windows, call that directly).
#
#   make lab PORT=8899            another port
#   make test ARGS="-k attention" further arguments for pytest

# The first Python on the path that the lock was made for; failing that, any Python, which then says what is wrong.
SUITS := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$python -c '$(SUITS)' 2>/dev/null && echo $$python && exit; done; command -v python3 python | head -n 1)

ifeq ($(strip $(PYTHON)),)
$(error No Python found: install Python 3.11, 3.12 or 3.13 from your package manager or python.org, then run make again)
endif

.DEFAULT_GOAL := help
.PHONY: help lab test format notebooks lock instructor benchmark clean

help lab test format notebooks lock instructor benchmark clean:
	@$(PYTHON) tools/course.py $@ $(if $(PORT),--port $(PORT)) $(ARGS)
