# Targets around `tfs`, for a project's own Makefile; printed by `tfs init --make > tfs.mk`, to be committed and included:
#
#   include tfs.mk
#
# Set before the include, or on make's command line:
#   TFS=tfs  TFS_SPEC=serving.yaml  TFS_REPOSITORY=models  TFS_REPORTS=tfs-reports
#   TFS_MODEL=digits (what tfs-check checks)  TFS_BEFORE=digits/3  TFS_AFTER=digits/4  TFS_ARGS="--backend embedded" (of tfs-up)
# Your Makefile's default target stays the default.

TFS ?= tfs
TFS_SPEC ?= serving.yaml
TFS_REPOSITORY ?= models
TFS_REPORTS ?= tfs-reports
TFS_MODEL ?=
TFS_BEFORE ?=
TFS_AFTER ?=
TFS_ARGS ?=

tfs_default_goal := $(.DEFAULT_GOAL)

.PHONY: tfs-check tfs-configure tfs-configure-check tfs-diff tfs-up tfs-status tfs-smoke tfs-down tfs-verify

tfs-check: ## check TFS_MODEL: servable, and safe?
	@test -n "$(TFS_MODEL)" || { echo "make tfs-check: say which model: TFS_MODEL=digits" >&2; exit 2; }
	$(TFS) check --spec "$(TFS_SPEC)" --repository "$(TFS_REPOSITORY)" -- "$(TFS_MODEL)"

tfs-configure: ## write the server's config files
	$(TFS) configure --spec "$(TFS_SPEC)"

tfs-configure-check: ## are the config files current?
	$(TFS) configure --check --spec "$(TFS_SPEC)"

tfs-diff: ## may TFS_AFTER take the place of TFS_BEFORE?
	@test -n "$(TFS_BEFORE)" -a -n "$(TFS_AFTER)" || { \
	  echo "make tfs-diff: say what: TFS_BEFORE=digits/3 TFS_AFTER=digits/4" >&2; exit 2; }
	$(TFS) diff --spec "$(TFS_SPEC)" --repository "$(TFS_REPOSITORY)" -- "$(TFS_BEFORE)" "$(TFS_AFTER)"

tfs-up: ## start the server
	$(TFS) up --spec "$(TFS_SPEC)" $(TFS_ARGS)

tfs-status: ## what is served
	$(TFS) status --spec "$(TFS_SPEC)"

tfs-smoke: ## verify what is served
	@mkdir -p "$(TFS_REPORTS)"
	$(TFS) smoke --spec "$(TFS_SPEC)" --junit "$(TFS_REPORTS)/smoke.xml"

tfs-down: ## stop the server
	$(TFS) down --spec "$(TFS_SPEC)"

tfs-verify: ## start, verify, and stop whatever came of it
	@mkdir -p "$(TFS_REPORTS)"
	$(TFS) up --spec "$(TFS_SPEC)" $(TFS_ARGS)
	$(TFS) smoke --spec "$(TFS_SPEC)" --junit "$(TFS_REPORTS)/smoke.xml"; code=$$?; \
	  $(TFS) down --spec "$(TFS_SPEC)" && exit $$code

.DEFAULT_GOAL := $(tfs_default_goal)
