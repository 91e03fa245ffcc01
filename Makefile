# Every target does all of its own set-up, in .venv (parity: .venv-parity); tools/course.py does the work (on Windows, call that directly).
#
#   make lab PORT=8899            another port
#   make test ARGS="-k attention" further arguments for pytest
#   make grade ARGS="run hw1 ../course"   a step of `xattn grade`

# The first Python on the path that suits: tools/course.py refuses the others.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$python tools/course.py help >/dev/null 2>&1 && echo $$python && exit; done)

ifeq ($(strip $(PYTHON)),)
$(error No Python 3.11 to 3.14 found: install one (3.12, say) or name yours, as in make lab PYTHON=/path/to/python3.12)
endif

.DEFAULT_GOAL := help
.PHONY: help lab test parity portable format notebooks lock benchmark fuzz gpu kills grade clean

help lab test parity portable format notebooks lock benchmark fuzz gpu kills grade clean:
	@$(PYTHON) tools/course.py $@ $(if $(PORT),--port $(PORT)) $(ARGS)
