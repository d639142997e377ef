# make setup | test | fuzz | test-fast | test-families | test-fleet | test-lowest | test-pythons | test-other | test-gstreamer | test-gpu | check | demo | demo-camvid | accuracy | home | bench | clean
PYTHON ?= python3
DATA ?= ../shared/data
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CHECKPOINT := $(DATA)/models/espnetv2_s_2.0_city_1024x512.pth
FOOTAGE := $(DATA)/camvid/0001TP/images
OUT ?= out
MINUTES ?= 30
PYTEST_OPTIONS ?=
PYTHONS ?= python3.10 python3.12 python3.13
# Tests side by side, each file in one process: its fixtures are made once.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: setup test fuzz test-fast test-families test-fleet test-lowest test-pythons test-other test-gstreamer test-gpu check demo demo-camvid accuracy home bench clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

test: setup
	$(PYTEST) $(PYTEST_OPTIONS)

# The inner loop: less than a minute.
test-fast: setup
	$(PYTEST) -m 'not slow' $(PYTEST_OPTIONS)

# Published families of networks, in an environment of their own: torchvision brings a PyTorch of several GB.
# Ends with the table of docs/families.md.
test-families:
	$(PYTHON) -m venv $(VENV)-families
	$(VENV)-families/bin/python -m pip install --quiet -c constraints-families.txt torch torchvision
	$(VENV)-families/bin/python -m pip install --quiet -c constraints-families.txt -e '.[cpu,openvino,rtx]' pytest \
		segmentation-models-pytorch timm transformers
	mkdir -p $(OUT) && rm -f $(OUT)/families.jsonl
	OCL_EDGE_FAMILIES=$(OUT)/families.jsonl $(VENV)-families/bin/python -m pytest -m families tests/families $(PYTEST_OPTIONS)
	$(VENV)-families/bin/python -m tests.families.table $(OUT)/families.jsonl

# A fleet of real processes, in an environment of its own: Flower wants packaging, protobuf and rich older than ours.
# A dependency of Flower's is built with the setuptools that still has pkg_resources.
test-fleet:
	$(PYTHON) -m venv $(VENV)-fleet
	echo 'setuptools<81' > $(VENV)-fleet/build-constraints.txt
	$(VENV)-fleet/bin/python -m pip install --quiet --upgrade 'pip>=25.3'
	$(VENV)-fleet/bin/python -m pip install --quiet -c constraints-fleet.txt \
		--build-constraint $(VENV)-fleet/build-constraints.txt -e '.[cpu,fleet]' pytest
	$(VENV)-fleet/bin/python -m pytest -m fleet tests/fleet $(PYTEST_OPTIONS)

# The lowest versions that pyproject.toml allows, together. PyTorch's wheel brings several GB of CUDA.
test-lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(PYTHON) scripts/lowest_versions.py > $(VENV)-lowest/constraints.txt
	$(VENV)-lowest/bin/python -m pip install --quiet -c $(VENV)-lowest/constraints.txt -e '.[test]'
	$(VENV)-lowest/bin/python -m pytest -m 'not slow' $(PYTEST_OPTIONS)

# Bundles and states of this machine in other systems' userlands. Needs root and debootstrap; see the script.
test-other: setup
	$(BIN)/python scripts/other_userland.py

# The demo's bundle without PyTorch under other Pythons.
test-pythons: setup
	$(BIN)/python scripts/other_pythons.py $(PYTHONS)

# GStreamer and its RTSP server, from Debian's packages: python3-gi gir1.2-gst-plugins-base-1.0
# gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-libav. PYTHON is the system's.
test-gstreamer: setup
	$(BIN)/python -m pytest -rs tests/runtime/sources/test_gstreamer.py tests/runtime/sinks/test_stream.py $(PYTEST_OPTIONS)

# Where there is a GPU and a TensorRT. In PYTHON's environment, because theirs (JetPack's) cannot be
# installed into a venv: pip install -e '.[cpu]' pytest there first.
test-gpu:
	$(PYTHON) -m pytest -m gpu -rs tests/runtime/backends/test_tensorrt_gpu.py

# Hostile files of every kind, as long as wished; `make test` has a minute of it.
fuzz: setup
	$(BIN)/python -m tests.hostile.fuzz_all --minutes $(MINUTES) --keep $(OUT)/hostile

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# A drawn drive and a network that ships: nothing to download.
demo: setup
	$(BIN)/ocl-edge demo --out $(OUT)/demo

# The main job on a published checkpoint and real driving video.
demo-camvid: setup
	@test -f $(CHECKPOINT) || { echo "needs the checkpoint and footage: make demo-camvid DATA=DIR"; exit 1; }
	$(BIN)/ocl-edge export $(CHECKPOINT) --input-size 384x512 --calibration $(FOOTAGE) --force --out $(OUT)/espnetv2
	$(BIN)/ocl-edge inspect $(OUT)/espnetv2
	$(BIN)/ocl-edge run $(OUT)/espnetv2 --source $(FOOTAGE) --limit 40 --sink masks:$(OUT)/masks --sink overlay:$(OUT)/overlay
	$(BIN)/ocl-edge profile $(OUT)/espnetv2 --source $(FOOTAGE) --frames 20 --trace $(OUT)/trace.json

# The README's table of accuracy: eight streams, all frames, three seeds. Goes on where it was killed.
accuracy: setup
	test -f $(OUT)/accuracy/manifest.json || $(BIN)/ocl-edge export $(CHECKPOINT) --input-size 384x512 --out $(OUT)/accuracy
	$(BIN)/python bench/ablation.py run $(OUT)/accuracy --data $(DATA) --results $(OUT)/accuracy.jsonl \
		--cells 'frozen,norm,norm + OCL head + restoration'
	$(BIN)/python bench/ablation.py table --results $(OUT)/accuracy.jsonl

# At home and away: CGNet, which is at home on CamVid, and ESPNetv2. Goes on where it was killed.
home: setup
	test -f $(OUT)/home/cgnet/manifest.json || $(BIN)/ocl-edge export $(DATA)/models/cgnet/cgnet_camvid.pth \
		--arch $(DATA)/models/cgnet/network.py:build --input-size 360x480 --mean 0.41271,0.40349,0.38894 \
		--std 0.00392157,0.00392157,0.00392157 --out $(OUT)/home/cgnet
	test -f $(OUT)/accuracy/manifest.json || $(BIN)/ocl-edge export $(CHECKPOINT) --input-size 384x512 --out $(OUT)/accuracy
	$(BIN)/python bench/home.py run $(OUT)/home/cgnet --data $(DATA)/camvid --results $(OUT)/home.jsonl
	$(BIN)/python bench/home.py run $(OUT)/accuracy --network espnetv2 --data $(DATA)/camvid --results $(OUT)/home.jsonl
	test -d $(OUT)/home/cgnet-calibrated || (cp -r $(OUT)/home/cgnet $(OUT)/home/cgnet-new && \
		$(BIN)/ocl-edge calibrate $(OUT)/home/cgnet-new --frames $(DATA)/camvid/home && \
		mv $(OUT)/home/cgnet-new $(OUT)/home/cgnet-calibrated)
	$(BIN)/python bench/home.py run $(OUT)/home/cgnet-calibrated --data $(DATA)/camvid --results $(OUT)/home.jsonl
	$(BIN)/python bench/home.py table --results $(OUT)/home.jsonl

bench: setup
	$(BIN)/python bench/accuracy.py --data $(DATA)
	$(BIN)/python bench/accuracy.py --data $(DATA) --stat-rows 8 --backends onnxruntime
	$(BIN)/python bench/forms.py --data $(DATA) --threads 1
	for what in accuracy latency state; do $(BIN)/python bench/realtime.py $$what --data $(DATA) --results $(OUT)/realtime --threads 1; done
	$(BIN)/python bench/faults.py --data $(DATA) --results $(OUT)/faults

clean:
	rm -rf $(VENV) $(VENV)-families $(VENV)-fleet $(VENV)-lowest $(OUT) dist .coverage .import_linter_cache .mypy_cache .ruff_cache .pytest_cache
