"""Where the data sets are published, under which licence, and which files they consist of. No torch in this file.

Addresses are the authors' own; where those are known to be dead (the University of North Carolina's server, since
September 2022) an archived copy is named as a mirror. Checksums were measured on those copies by people who published
them; where nobody did, there is none. Licences are as stated by the authors: read them before use.
"""

from __future__ import annotations

from dataclasses import dataclass

from refseg.errors import DataError, did_you_mean


@dataclass(frozen=True)
class RemoteFile:
    """One file to fetch.

    urls: addresses in the order in which they are tried; empty when there is no direct one.
    path: where it is kept below the output folder.
    unpack: folder below the output folder that an archive is unpacked into; None keeps the file as it is.
    size, sha256, md5: what is known of its contents; a download that differs is refused.
    manual: what to do by hand, for files behind a form, in a cloud drive, or whose addresses are dead.
    """

    urls: tuple[str, ...]
    path: str
    unpack: str | None = None
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    manual: str = ""
    pictures: bool = False


@dataclass(frozen=True)
class Release:
    """How one data set is published. `layout` is what a folder holds when everything is there, one line a file."""

    name: str
    title: str
    paper: str
    home: str
    licence: str
    files: tuple[RemoteFile, ...]
    layout: tuple[str, ...]
    note: str = ""


_UNC = "https://bvisionweb1.cs.unc.edu/licheng/referit/data"
_ARCHIVE = "https://web.archive.org/web"

COCO_PICTURES = RemoteFile(
    ("http://images.cocodataset.org/zips/train2014.zip",),
    "archives/train2014.zip",
    "images",
    md5="0da8c0bd3d6becc4dcb32757491aca88",
    pictures=True,
)
_VG_PICTURES = tuple(
    RemoteFile(
        (f"https://cs.stanford.edu/people/rak248/VG_100K_2/{name}.zip",), f"archives/{name}.zip", "", pictures=True
    )
    for name in ("images", "images2")
)
_COCO_LICENCE = "annotations: Apache 2.0 (the repository's); pictures: COCO's terms, each picture its Flickr licence"


def _unc(name: str, stamp: str, size: int | None, sha256: str | None) -> RemoteFile:
    archived = f"{_ARCHIVE}/{stamp}id_/{_UNC}/{name}.zip"
    return RemoteFile((f"{_UNC}/{name}.zip", archived), f"archives/{name}.zip", "", size, sha256)


_RELEASES = (
    Release(
        "refcoco",
        "RefCOCO (UNC)",
        "Yu et al., Modeling Context in Referring Expressions, ECCV 2016",
        "https://github.com/lichengunc/refer",
        _COCO_LICENCE,
        (
            _unc(
                "refcoco",
                "20220413011718",
                53_993_993,
                "7f924bb7ed8dc4568058e4ff626281918d56e5206f4c868c5a80f088f38c8bf0",
            ),
            COCO_PICTURES,
        ),
        ("refcoco/refs(unc).p", "refcoco/refs(google).p", "refcoco/instances.json", "images/train2014/*.jpg"),
    ),
    Release(
        "refcoco+",
        "RefCOCO+ (UNC+)",
        "Yu et al., Modeling Context in Referring Expressions, ECCV 2016",
        "https://github.com/lichengunc/refer",
        _COCO_LICENCE,
        (
            _unc(
                "refcoco+",
                "20220413011656",
                45_613_210,
                "5f1238112d63199e68da54a28f201471909b21ded7ed79a57d51b4c1443c6b45",
            ),
            COCO_PICTURES,
        ),
        ("refcoco+/refs(unc).p", "refcoco+/instances.json", "images/train2014/*.jpg"),
    ),
    Release(
        "refcocog",
        "RefCOCOg (UMD and Google splits)",
        "Mao et al., Generation and Comprehension of Unambiguous Object Descriptions, CVPR 2016",
        "https://github.com/lichengunc/refer",
        "annotations: CC BY 4.0 (Google's release); pictures: COCO's terms, each picture its Flickr licence",
        (
            _unc(
                "refcocog",
                "20220413012904",
                56_712_951,
                "3d1f7e5b2ff2205940bf59de55f861f5f2cc1403fb980669933a7f9af1aa8211",
            ),
            COCO_PICTURES,
        ),
        ("refcocog/refs(umd).p", "refcocog/refs(google).p", "refcocog/instances.json", "images/train2014/*.jpg"),
    ),
    Release(
        "grefcoco",
        "gRefCOCO",
        "Liu, Ding, Jiang, GRES: Generalized Referring Expression Segmentation, CVPR 2023",
        "https://github.com/henghuiding/gRefCOCO",
        "annotations: not stated in the repository, ask its authors; pictures: COCO's terms",
        (
            RemoteFile(
                (),
                "grefcoco",
                manual="the repository's README links to a cloud drive (OneDrive, Google Drive); put grefs(unc).json "
                "and instances.json into grefcoco/",
            ),
            COCO_PICTURES,
        ),
        ("grefcoco/grefs(unc).json", "grefcoco/instances.json", "images/train2014/*.jpg"),
        "file_name in the records may belong to another picture: only image_id counts",
    ),
    Release(
        "refclef",
        "RefCLEF / ReferIt (UNC and Berkeley splits)",
        "Kazemzadeh et al., ReferItGame, EMNLP 2014",
        "https://github.com/lichengunc/refer",
        "annotations: Apache 2.0 (the repository's); pictures: IAPR TC-12, free for research",
        (
            _unc("refclef", "20220413011817", None, None),
            RemoteFile(
                (
                    f"{_UNC}/images/saiapr_tc-12.zip",
                    f"{_ARCHIVE}/20220515000000id_/http://bvisionweb1.cs.unc.edu/licheng/referit/data/images/saiapr_tc-12.zip",
                ),
                "archives/saiapr_tc-12.zip",
                "images",
                pictures=True,
            ),
        ),
        ("refclef/refs(unc).p", "refclef/refs(berkeley).p", "refclef/instances.json", "images/saiapr_tc-12/**/*.jpg"),
        "for the form with .mat masks: referitdata.tar.gz, see github.com/ronghanghu/text_objseg (exp-referit)",
    ),
    Release(
        "flickr30k",
        "Flickr30k Entities",
        "Plummer et al., Flickr30k Entities, IJCV 2017",
        "https://github.com/BryanPlummer/flickr30k_entities",
        "research and education only; pictures: Flickr's terms of use",
        (
            RemoteFile(
                ("https://github.com/BryanPlummer/flickr30k_entities/raw/master/annotations.zip",),
                "archives/flickr30k-annotations.zip",
                "flickr30k",
            ),
            *(
                RemoteFile(
                    (f"https://raw.githubusercontent.com/BryanPlummer/flickr30k_entities/master/{name}",),
                    f"flickr30k/{name}",
                )
                for name in ("train.txt", "val.txt", "test.txt", "UNRELATED_CAPTIONS")
            ),
            RemoteFile(
                (),
                "flickr30k/flickr30k-images",
                manual="fill in the form at http://hockenmaier.cs.illinois.edu/DenotationGraph/ and unpack "
                "flickr30k-images.tar.gz into flickr30k/",
                pictures=True,
            ),
        ),
        (
            "flickr30k/Sentences/*.txt",
            "flickr30k/Annotations/*.xml",
            "flickr30k/train.txt, val.txt, test.txt",
            "flickr30k/flickr30k-images/*.jpg",
        ),
    ),
    Release(
        "visual-genome",
        "Visual Genome regions",
        "Krishna et al., Visual Genome, IJCV 2017",
        "https://homes.cs.washington.edu/~ranjay/visualgenome/api.html",
        "CC BY 4.0",
        (
            *(
                RemoteFile(
                    (f"https://homes.cs.washington.edu/~ranjay/visualgenome/data/dataset/{name}.json.zip",),
                    f"archives/{name}.json.zip",
                    "visual-genome",
                )
                for name in ("region_descriptions", "image_data")
            ),
            *_VG_PICTURES,
        ),
        (
            "visual-genome/region_descriptions.json",
            "visual-genome/image_data.json",
            "VG_100K/*.jpg",
            "VG_100K_2/*.jpg",
        ),
    ),
    Release(
        "phrasecut",
        "PhraseCut",
        "Wu et al., PhraseCut: Language-based Image Segmentation in the Wild, CVPR 2020",
        "https://github.com/ChenyunWu/PhraseCutDataset",
        "annotations: not stated in the repository; pictures: Visual Genome, CC BY 4.0",
        (
            RemoteFile(
                (),
                "phrasecut",
                manual="run the repository's download_dataset.py, or take refer_*.json and image_data_split3000.json "
                "from its Google Drive folder into phrasecut/",
            ),
            *_VG_PICTURES,
        ),
        (
            "phrasecut/refer_train.json, refer_val.json, ...",
            "phrasecut/image_data_split3000.json",
            "phrasecut/images/*.jpg or VG_100K/",
        ),
    ),
    Release(
        "ref-davis17",
        "Ref-DAVIS17",
        "Khoreva, Rohrbach, Schiele, Video Object Segmentation with Language Referring Expressions, ACCV 2018",
        "https://www.mpi-inf.mpg.de/departments/computer-vision-and-machine-learning/research/video-segmentation/"
        "video-object-segmentation-with-language-referring-expressions",
        "see the two projects' pages (davischallenge.org); both are for research",
        (
            RemoteFile(
                (),
                "ref-davis17/davis_text_annotations",
                manual="download the text annotations from the project's page and unpack them into ref-davis17/",
            ),
            *(
                RemoteFile(
                    (f"https://data.vision.ee.ethz.ch/csergi/share/davis/{name}.zip",),
                    f"archives/{name}.zip",
                    "ref-davis17",
                    pictures=True,
                )
                for name in ("DAVIS-2017-Unsupervised-trainval-480p", "DAVIS-2017_semantics-480p")
            ),
        ),
        (
            "ref-davis17/davis_text_annotations/Davis17_annot1.txt, ...",
            "ref-davis17/DAVIS/JPEGImages/480p/<video>/*.jpg",
            "ref-davis17/DAVIS/Annotations_unsupervised/480p/<video>/*.png",
            "ref-davis17/DAVIS/ImageSets/2017/train.txt, val.txt",
        ),
    ),
    Release(
        "ref-youtube-vos",
        "Ref-YouTube-VOS",
        "Seo, Lee, Han, URVOS, ECCV 2020",
        "https://youtube-vos.org/dataset/rvos/",
        "see the challenge's page; videos: YouTube's terms, for research",
        (
            RemoteFile(
                (),
                "ref-youtube-vos",
                manual="register for the challenge at https://codalab.lisn.upsaclay.fr (Referring Video Object "
                "Segmentation), then unpack train.zip, valid.zip and meta_expressions.zip into ref-youtube-vos/",
                pictures=True,
            ),
        ),
        (
            "ref-youtube-vos/meta_expressions/<split>/meta_expressions.json",
            "ref-youtube-vos/train/JPEGImages/<video>/*.jpg",
            "ref-youtube-vos/train/Annotations/<video>/*.png",
            "ref-youtube-vos/train/meta.json",
        ),
        "the masks of valid and test are not public: scores come from the challenge's server",
    ),
    Release(
        "mevis",
        "MeViS",
        "Ding et al., MeViS: A Large-scale Benchmark for Video Segmentation with Motion Expressions, ICCV 2023",
        "https://github.com/henghuiding/MeViS",
        "CC BY-NC-SA 4.0 as its authors state, for non-commercial research",
        (
            RemoteFile(
                (),
                "mevis",
                manual="the repository's README links to the challenge's page and to FudanCVL/MeViSv2 on Hugging Face; "
                "unpack train, valid_u and valid into mevis/",
                pictures=True,
            ),
        ),
        (
            "mevis/<split>/meta_expressions.json",
            "mevis/<split>/mask_dict.json (train, valid_u)",
            "mevis/<split>/JPEGImages/<video>/*.jpg",
        ),
    ),
)

RELEASES: dict[str, Release] = {release.name: release for release in _RELEASES}


def release(name: str) -> Release:
    """How the data set called `name` is published. Raises `DataError` that names the nearest ones."""
    if name not in RELEASES:
        raise DataError(f"no data set {name!r} is known; {did_you_mean(name, list(RELEASES))}")
    return RELEASES[name]
