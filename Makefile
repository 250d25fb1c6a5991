# Building, testing, installing. `make` alone builds the release binary.
#
# PREFIX    where `install` puts things, default /usr/local; PREFIX=$HOME/.local needs no root
# DESTDIR   put before every installed path, for packagers
# MANDIR    where the man pages go, default PREFIX/share/man
# QUICK=1   small sizes for `make bench`
# FUZZ_SECONDS  how long `make fuzz` runs
PREFIX = /usr/local
MANDIR = $(PREFIX)/share/man
DESTDIR =
CARGO = cargo
FUZZ_SECONDS = 600

# Where each shell looks for completions, below PREFIX/share.
COMPLETIONS = bash=bash-completion/completions/ac7 zsh=zsh/site-functions/_ac7 fish=fish/vendor_completions.d/ac7.fish

# Where cargo puts what it builds; expanded by the shell.
TARGET = $${CARGO_TARGET_DIR:-target}

# No path of the machine gets into the binary: the same source gives the same bytes wherever it is built.
REMAP = --remap-path-prefix=$(CURDIR)=/ac7 --remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo

all:
	RUSTFLAGS="$${RUSTFLAGS:-} $(REMAP)" $(CARGO) build --release --locked

test:
	$(CARGO) test --locked --workspace

# The page in a real browser: needs chromium, chromedriver and node (Debian: chromium chromium-driver nodejs).
# AC7_SCREENSHOTS=FOLDER keeps pictures.
test-web:
	$(CARGO) test --locked --test web

# Formatting, lints, man pages, units, what the binary is made of.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --test web -- -D warnings
	for page in man/*.[1-9]; do test ! -e "$$page" || mandoc -Tlint -W warning "$$page" || exit 1; done
	tests/units.sh
	CARGO="$(CARGO)" tests/deps.sh check

# Random input to everything that reads what peers send, all targets side by side; `make test` has a short run of it.
fuzz:
	AC7_FUZZ_SECONDS=$(FUZZ_SECONDS) $(CARGO) test --locked --profile fuzz --test fuzz -- --test-threads 99 --nocapture

# The main job, end to end: curl makes a model call to a mock upstream, ac7 shows it.
demo:
	$(CARGO) build --locked --bin ac7 --example mock-upstream
	tests/demo.sh "$(TARGET)/debug"

# Speed against a bare relay, storage against bare SQLite, and the page in a browser where there is one. Peers: see
# tests/bench/bench.rs.
bench: all
	RUSTFLAGS="$${RUSTFLAGS:-} $(REMAP)" $(CARGO) build --release --locked --examples
	status=0; \
	"$(TARGET)/release/examples/bench" compare "$(TARGET)/release/ac7" $${QUICK:+--quick} || status=1; \
	"$(TARGET)/release/examples/ingest_bench" || status=1; \
	for what in broker fanout; do \
	  "$(TARGET)/release/examples/bench" $$what "$(TARGET)/release/ac7" $${QUICK:+--quick} || status=1; \
	done; \
	if command -v chromedriver >/dev/null; then \
	  RUSTFLAGS="$${RUSTFLAGS:-} $(REMAP)" $(CARGO) test --release --locked --test web figures -- --nocapture || status=1; \
	else echo "the page is not measured: there is no chromedriver"; fi; \
	exit $$status

install:
	test -x "$(TARGET)/release/ac7" || $(MAKE) all
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 "$(TARGET)/release/ac7" "$(DESTDIR)$(PREFIX)/bin/ac7"
	for page in man/*.[1-9]; do \
	  test -e "$$page" || continue; \
	  section="$(DESTDIR)$(MANDIR)/man$${page##*.}"; \
	  install -d "$$section" && install -m 644 "$$page" "$$section/" || exit 1; \
	done
	for place in $(COMPLETIONS); do \
	  file="$(DESTDIR)$(PREFIX)/share/$${place#*=}"; \
	  install -d "$${file%/*}" && "$(TARGET)/release/ac7" completions "$${place%%=*}" >"$$file" || exit 1; \
	done

uninstall:
	rm -f "$(DESTDIR)$(PREFIX)/bin/ac7"
	for place in $(COMPLETIONS); do rm -f "$(DESTDIR)$(PREFIX)/share/$${place#*=}"; done
	for page in man/*.[1-9]; do rm -f "$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}"; done

# One file that runs on any Linux of this architecture.
static:
	host=$$(rustc -vV | sed -n 's/^host: //p'); \
	case $$host in *-linux-gnu) ;; *) echo "make static: needs a glibc Linux, this is $$host" >&2; exit 1;; esac; \
	RUSTFLAGS="-C target-feature=+crt-static $(REMAP)" $(CARGO) build --release --locked --target "$$host" && \
	echo "$(TARGET)/$$host/release/ac7"

# What is committed, with every crate in it: builds with no network. The same commit gives the same bytes (GNU tar).
# Beside it the list of its crates, and the checksums of both.
dist:
	tests/dist.sh

# Whether the source alone decides about the bytes of the binary.
check-reproducible:
	tests/reproducible.sh

# What the binary is made of: licences, versions, how many crates. Needs no network.
check-deps:
	CARGO="$(CARGO)" tests/deps.sh check

sbom:
	@tests/deps.sh sbom

clean:
	$(CARGO) clean
	rm -f ac7-*.tar.gz ac7-*.sbom.txt SHA256SUMS

.PHONY: all test test-web lint fuzz demo bench install uninstall static dist check-reproducible check-deps sbom clean
