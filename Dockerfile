# docker build -t gan-lightning .
# mkdir -p runs data  # otherwise Docker creates them as root
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/runs:/home/gan/runs" gan-lightning gan-train model=wgan_gp data=gaussian_ring
# docker run --rm --user "$(id -u):$(id -g)" --gpus all -v "$PWD/runs:/home/gan/runs" -v "$PWD/data:/home/gan/data" gan-lightning gan-train data=cifar10
FROM python:3.13-slim
RUN useradd --create-home --uid 1000 gan && chmod 755 /home/gan && mkdir -p /home/gan/runs && chmod 777 /home/gan/runs
COPY requirements.lock /source/
RUN pip install --no-cache-dir --require-hashes --requirement /source/requirements.lock
COPY pyproject.toml README.md LICENSE /source/
COPY gan_lightning /source/gan_lightning
COPY conf /source/conf
RUN pip install --no-cache-dir --no-deps --no-build-isolation /source
USER gan
WORKDIR /home/gan
ENV GAN_DATA_DIR=/home/gan/data GAN_CACHE_DIR=/home/gan/runs/.cache
CMD ["gan-train", "--help"]
