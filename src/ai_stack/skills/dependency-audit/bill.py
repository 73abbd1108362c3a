"""A project's bill of materials in CycloneDX 1.6."""

from collections.abc import Sequence

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from .licences import Licences
from .packages import Lock, Package

ALGORITHMS = {
    "md5": HashAlgorithm.MD5, "sha1": HashAlgorithm.SHA_1, "sha256": HashAlgorithm.SHA_256,
    "sha384": HashAlgorithm.SHA_384, "sha512": HashAlgorithm.SHA_512,
}  # fmt: skip
HEX_DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128}


def bill(name: str, locks: Sequence[Lock], licences: Licences) -> tuple[str, int]:
    """The bill as JSON, and how many components it has; each package is one, wherever it stands."""
    bom, components = Bom(), dict[str, Component]()
    bom.metadata.component = root = Component(
        name=name, type=ComponentType.APPLICATION, bom_ref="project"
    )
    for lock in locks:
        placed = [_placed(components, package, lock, licences) for package in lock.packages]
        for package, component in zip(lock.packages, placed, strict=True):
            bom.register_dependency(component, [placed[n] for n in package.needs])
        bom.register_dependency(root, placed)
    for component in components.values():
        bom.components.add(component)
    return JsonV1Dot6(bom).output_as_string(indent=1), len(components)


def _placed(
    components: dict[str, Component], package: Package, lock: Lock, licences: Licences
) -> Component:
    """The component of a package; one that is named twice is told with both its places."""
    url = purl(package)
    found = components.get(str(url))
    if found is None:
        found = components[str(url)] = _component(package, url, licences)
    found.properties.add(Property(name="ai-stack:lock-file", value=f"{lock.path}:{package.line}"))
    return found


def purl(package: Package) -> PackageURL:
    """The package's URL (https://github.com/package-url/purl-spec)."""
    namespace, _, name = package.name.rpartition("/")
    kind = {"nix": "generic"}.get(package.ecosystem, package.ecosystem)
    return PackageURL(kind, namespace or None, name, package.version or None)


def _component(package: Package, url: PackageURL, licences: Licences) -> Component:
    licence = licences.of(package)
    return Component(
        name=package.name,
        version=package.version or None,
        type=ComponentType.LIBRARY,
        bom_ref=str(url),
        purl=url,
        hashes=[h for text in package.hashes if (h := _hash(text))] if _single(package) else [],
        licenses=[LicenseFactory().make_from_string(licence)] if licence else [],
    )


def _single(package: Package) -> bool:
    """Whether the hashes are of one file; several wheels are several files, of no one component."""
    return len(package.hashes) == 1


def _hash(text: str) -> HashType | None:
    algorithm, _, digest = text.partition(":")
    if algorithm not in ALGORITHMS or len(digest) != HEX_DIGITS[algorithm]:
        return None
    return HashType(alg=ALGORITHMS[algorithm], content=digest)
