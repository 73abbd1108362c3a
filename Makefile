# The tasks of this repository; continuous integration and people run the same ones.
run := .venv/bin

.PHONY: test check format lock docs scorecard bench

test: ## everything that continuous integration runs
	./scripts/ai-stack-manage.sh test

check: ## style, types and layers
	$(run)/ruff check
	$(run)/ruff format --check
	$(run)/mypy
	$(run)/python scripts/check_skills.py
	$(run)/lint-imports

format: ## rewrite to the house's format
	$(run)/ruff check --fix
	$(run)/ruff format

lock: ## pin every dependency anew, with hashes
	./scripts/lock.sh

docs: ## write the generated parts of docs/reference, and of nix
	$(run)/python docs/generate.py
	$(run)/python nix/generate.py

scorecard: ## the reliability table, full counts
	$(run)/python tests/reliability/scorecard.py --full

bench: ## the benchmarks that need nothing but the stack
	$(run)/python benchmarks/embedder.py
