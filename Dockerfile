# Builds the artefacts of "make image" in a container:
#   docker build --output type=local,dest=_out .
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY hack/setup.sh hack/
RUN hack/setup.sh build
COPY . .
RUN go run ./images -out /out all && \
    CGO_ENABLED=0 go build -trimpath -o /out/osctl ./osctl && \
    rm -r /out/build /out/debs

FROM scratch
COPY --from=build /out /
