"""Names of XMP properties that an answer may repeat, by the URI of their namespace."""

from collections.abc import Mapping

Names = Mapping[str, tuple[str, frozenset[str]]]
"""Usual prefix of a namespace and its names that are kept, by URI."""

EXPOSURE = """
    ApertureValue BrightnessValue CFAPattern Contrast CustomRendered DateTimeDigitized DateTimeOriginal DigitalZoomRatio
    ExifVersion ExposureBiasValue ExposureIndex ExposureMode ExposureProgram ExposureTime FileSource Fired Flash
    FlashEnergy FlashpixVersion FNumber FocalLength FocalLengthIn35mmFilm Function GainControl ImageUniqueID
    ISOSpeedRatings LightSource MaxApertureValue MeteringMode Mode OECF RedEyeMode Return Saturation SceneCaptureType
    SceneType SensingMethod Sharpness ShutterSpeedValue SpectralSensitivity SubjectDistance SubjectDistanceRange
    UserComment WhiteBalance
"""
LENS_AND_CAMERA = """
    BodySerialNumber CameraFirmware CameraOwnerName Gamma ImageEditingSoftware ImageEditor ImageTitle ISOSpeed
    LensMake LensModel LensSerialNumber LensSpecification MetadataEditingSoftware OffsetTime OffsetTimeDigitized
    OffsetTimeOriginal PhotographicSensitivity Photographer RAWDevelopingSoftware RecommendedExposureIndex
    SensitivityType StandardOutputSensitivity
"""
RIGHTS_AND_PEOPLE = """
    CopyrightOwner CopyrightOwnerID CopyrightOwnerImageID CopyrightOwnerName CopyrightStatus CreditLineRequired
    DataMining EndUser EndUserName ImageCreator ImageCreatorID ImageCreatorImageID ImageCreatorName ImageSupplier
    ImageSupplierID ImageSupplierImageID ImageSupplierName LicenseEndDate LicenseStartDate LicenseTransactionDate
    Licensor LicensorEmail LicensorID LicensorImageID LicensorName LicensorNotes LicensorTransactionID LicensorURL
    MediaConstraints MediaSummaryCode MinorModelAgeDisclosure ModelReleaseID ModelReleaseStatus OtherConditions
    OtherConstraints OtherImageInfo OtherLicenseInfo OtherLicenseRequirements PropertyReleaseID PropertyReleaseStatus
    Reuse TermsAndConditionsText TermsAndConditionsURL
"""


def _names(*rows: tuple[str, str, str]) -> Names:
    return {uri: (prefix, frozenset(words.split())) for uri, prefix, words in rows}


KEPT: Names = _names(
    (
        "http://purl.org/dc/elements/1.1/",
        "dc",
        "contributor creator date description identifier language publisher relation rights source subject title type",
    ),
    ("http://ns.adobe.com/xap/1.0/", "xmp", "CreateDate CreatorTool Label MetadataDate ModifyDate Nickname Rating"),
    ("http://ns.adobe.com/xap/1.0/rights/", "xmpRights", "Certificate Marked Owner UsageTerms WebStatement"),
    (
        "http://ns.adobe.com/tiff/1.0/",
        "tiff",
        "Artist Copyright DateTime ImageDescription Make Model ResolutionUnit Software XResolution YResolution",
    ),
    ("http://ns.adobe.com/exif/1.0/", "exif", EXPOSURE),
    ("http://cipa.jp/exif/1.0/", "exifEX", LENS_AND_CAMERA),
    (
        "http://ns.adobe.com/exif/1.0/aux/",
        "aux",
        "ApproximateFocusDistance Firmware FlashCompensation ImageNumber Lens LensID LensInfo LensSerialNumber "
        "OwnerName SerialNumber",
    ),
    (
        "http://ns.adobe.com/photoshop/1.0/",
        "photoshop",
        "AuthorsPosition CaptionWriter Category Credit DateCreated Headline Instructions Source "
        "SupplementalCategories TransmissionReference Urgency",
    ),
    (
        "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
        "Iptc4xmpCore",
        "AltTextAccessibility CiEmailWork CiTelWork CiUrlWork CreatorContactInfo ExtDescrAccessibility "
        "IntellectualGenre Scene SubjectCode",
    ),
    (
        "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        "Iptc4xmpExt",
        "AddlModelInfo AIPromptInformation AIPromptWriterName AISystemUsed AISystemVersionUsed Contributor "
        "DigitalSourceType DigImageGUID Event ModelAge OrganisationInImageCode OrganisationInImageName PersonInImage",
    ),
    ("http://ns.useplus.org/ldf/xmp/1.0/", "plus", RIGHTS_AND_PEOPLE),
    ("http://creativecommons.org/ns#", "cc", "attributionName attributionURL license morePermissions useGuidelines"),
    ("http://ns.adobe.com/lightroom/1.0/", "lr", "hierarchicalSubject weightedFlatSubject"),
    ("http://www.digikam.org/ns/1.0/", "digiKam", "TagsList"),
    ("http://ns.microsoft.com/photo/1.0/", "MicrosoftPhoto", "Rating"),
    ("http://ns.microsoft.com/photo/1.0", "MSPhoto", "Rating"),  # as ExifTool writes it
)

LOCATION: Names = _names(
    (
        "http://ns.adobe.com/exif/1.0/",
        "exif",
        "GPSAltitude GPSAltitudeRef GPSAreaInformation GPSDateStamp GPSDestBearing GPSDestBearingRef GPSDestDistance "
        "GPSDestDistanceRef GPSDestLatitude GPSDestLongitude GPSDifferential GPSDOP GPSHPositioningError "
        "GPSImgDirection GPSImgDirectionRef GPSLatitude GPSLongitude GPSMapDatum GPSMeasureMode GPSProcessingMethod "
        "GPSSatellites GPSSpeed GPSSpeedRef GPSStatus GPSTimeStamp GPSTrack GPSTrackRef GPSVersionID",
    ),
    ("http://ns.adobe.com/photoshop/1.0/", "photoshop", "City Country State"),
    (
        "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
        "Iptc4xmpCore",
        "CiAdrCity CiAdrCtry CiAdrExtadr CiAdrPcode CiAdrRegion CountryCode Location",
    ),
    (
        "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        "Iptc4xmpExt",
        "City CountryCode CountryName LocationCreated LocationId LocationName LocationShown ProvinceState Sublocation "
        "WorldRegion",
    ),
    ("http://purl.org/dc/elements/1.1/", "dc", "coverage"),
    (
        "http://www.dji.com/drone-dji/1.0/",
        "drone-dji",
        "AbsoluteAltitude GpsLatitude GpsLongitude GpsLongtitude Latitude Longitude RelativeAltitude",  # sic
    ),
)
