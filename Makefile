# make demo: a fresh clone to edited pictures.  make test: the fast tests.  Both make their own .venv first.
# make test-tf215: the same tests on TensorFlow 2.15 and Keras 2, in an environment of its own.
PYTHON ?= python3
RUN ?= runs/demo
BIN = .venv/bin

# One thread of TensorFlow's each, so that two workers fill two cores.
PYTEST = TF_NUM_INTRAOP_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal
TF215 = .venv-tf215

.PHONY: demo test test-tf215 test-tf215-ci slow lint docs clean

demo: .venv/ready
	@echo "make demo: about 10 minutes on two cores with AVX-512, most of it training; an older processor takes half an"
	@echo "hour and more. The training says after its first steps how long it takes here."
	$(BIN)/python -m data.build --dataset=demo --raw_dir=$(RUN)/raw --out_dir=$(RUN)/records
	$(BIN)/python -m simgan_tf.text.train --records_dir=$(RUN)/records --run_dir=$(RUN) \
	    --dim=128 --word_dim=64 --image_size=32 --image_width=16 --steps=300 --learning_rate=2e-3
	$(BIN)/python run_train.py --preset=simgan_demo --records_dir=$(RUN)/records --run_dir=$(RUN)
	$(BIN)/python -m simgan_tf.evaluation --run_dir=$(RUN) --figures
	$(BIN)/python run_export.py --run_dir=$(RUN) --out_dir=$(RUN)/export --records_dir=$(RUN)/records
	$(BIN)/python -m simgan_tf.edit --run_dir=$(RUN) --image=$(RUN)/raw/jpg/image_00001.jpg \
	    --text="this flower has purple petals" --out=$(RUN)/edit.png --samples=3 \
	    --sheet=$(RUN)/sheet.png
	@echo
	@echo "Done. Look at"
	@echo "  $(RUN)/figures/edits.png          source | reconstruction | one edit a sentence"
	@echo "  $(RUN)/figures/samples.png        one sentence, several results"
	@echo "  $(RUN)/figures/interpolation.png  from one sentence to another"
	@echo "  $(RUN)/figures/curves.png         the terms of both networks over the steps"
	@echo "  $(RUN)/sheet.png                  one picture, one sentence, three results; edit-1.png ... at its own size"
	@echo "  $(RUN)/results.json               the numbers"
	@echo "  $(RUN)/export/                    saved_model/ and five .tflite files, with export.json"

# Where CI=true, also those of the slow ones that are marked ci.
test: .venv/ready lint
	$(PYTEST) $(if $(CI),--ci)

test-tf215: $(TF215)/ready
	$(subst $(BIN),$(TF215)/bin,$(PYTEST))

# What the two lines' Kerases can do differently; left out: the data's builders, the page, the server, the command line.
test-tf215-ci: $(TF215)/ready
	$(subst $(BIN),$(TF215)/bin,$(PYTEST)) $(patsubst %,tests/test_%.py,addons engine export layers losses methods \
	    pipeline pretrained saved_model tagan tflite)

slow: .venv/ready
	$(PYTEST) --slow

lint: .venv/ready
	$(BIN)/ruff check .

docs: .venv/ready  # the page that is made of the code
	$(BIN)/python -m tests.deviations

# Any of Python 3.10 to 3.13.
.venv/ready: requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else \
	    "error: Python %d.%d found, 3.10 to 3.13 needed; name one: make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	# For tests alone. --no-deps: it wants the package `tensorflow`, whose files would overwrite tensorflow-cpu's.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "tensorflow-serving-api~=2.21.0"
	touch $@

# Python 3.10 or 3.11. TensorFlow Serving's messages are for tests alone, as below.
$(TF215)/ready: requirements-tf215.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 11) else \
	    "error: Python %d.%d found, 3.10 or 3.11 needed: make test-tf215 PYTHON=python3.11" % v)'
	$(PYTHON) -m venv $(TF215)
	$(TF215)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-tf215.txt
	$(TF215)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "tensorflow-serving-api~=2.15.0"
	touch $@

clean:
	rm -rf .venv $(TF215) runs
