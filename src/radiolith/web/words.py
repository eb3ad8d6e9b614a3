"""The pages' own words in English, German and French. What stands in the images' headers stays as it is."""

from __future__ import annotations

LANGUAGES = ("en", "de", "fr")

_WORDS: dict[str, tuple[str, str, str]] = {
    "studies": ("Studies", "Untersuchungen", "Examens"),
    "series": ("Series", "Serien", "Séries"),
    "images": ("Images", "Bilder", "Images"),
    "objects": ("Objects", "Objekte", "Objets"),
    "sign_in": ("Sign in", "Anmelden", "Se connecter"),
    "sign_out": ("Sign out", "Abmelden", "Se déconnecter"),
    "user": ("User", "Benutzer", "Utilisateur"),
    "password": ("Password", "Passwort", "Mot de passe"),
    "wrong": (
        "User or password is wrong.",
        "Benutzer oder Passwort ist falsch.",
        "Utilisateur ou mot de passe incorrect.",
    ),
    "patient": ("Patient", "Patient", "Patient"),
    "patient_id": ("Patient ID", "Patienten-ID", "ID patient"),
    "birth": ("Born", "Geboren", "Né(e) le"),
    "date": ("Date", "Datum", "Date"),
    "description": ("Description", "Beschreibung", "Description"),
    "modality": ("Modality", "Modalität", "Modalité"),
    "label": ("Label", "Etikett", "Étiquette"),
    "accession": ("Accession", "Auftragsnummer", "N° d'examen"),
    "referrer": ("Referring physician", "Zuweiser", "Médecin demandeur"),
    "from": ("From", "Von", "Du"),
    "to": ("To", "Bis", "Au"),
    "search": ("Search", "Suchen", "Rechercher"),
    "clear": ("Clear", "Leeren", "Effacer"),
    "previous": ("Previous", "Zurück", "Précédent"),
    "next": ("Next", "Weiter", "Suivant"),
    "nothing": ("Nothing matches.", "Nichts gefunden.", "Aucun résultat."),
    "empty": ("The archive is empty.", "Das Archiv ist leer.", "L'archive est vide."),
    "how_to_fill": (
        "Import a folder, or send images to the DICOMweb address of this server:",
        "Einen Ordner importieren oder Bilder an die DICOMweb-Adresse dieses Servers senden:",
        "Importez un dossier, ou envoyez des images à l'adresse DICOMweb de ce serveur :",
    ),
    "frame": ("Frame", "Bild", "Image"),
    "window": ("Window", "Fensterung", "Fenêtrage"),
    "stored_window": ("As stored", "Wie gespeichert", "Par défaut"),
    "no_picture": ("No picture", "Kein Bild", "Pas d'image"),
    "open": ("Open", "Öffnen", "Ouvrir"),
    "metadata": ("Metadata", "Metadaten", "Métadonnées"),
    "download": ("Download", "Herunterladen", "Télécharger"),
    "back": ("Back to the list", "Zur Liste", "Retour à la liste"),
    "not_for_diagnosis": (
        "Not for diagnosis.",
        "Nicht zur Befundung.",
        "Ne pas utiliser pour le diagnostic.",
    ),
    "refused": ("That did not work", "Das ging nicht", "Cela n'a pas fonctionné"),
    "far": (
        "There are more results than these pages show; narrow the search.",
        "Es gibt mehr Treffer, als diese Seiten zeigen; bitte enger suchen.",
        "Il y a plus de résultats que ces pages n'en montrent ; affinez la recherche.",
    ),
}


def language(accepted: str) -> str:
    """The best of our languages for an Accept-Language header (RFC 9110 12.5.4)."""
    choices: list[tuple[float, int, str]] = []
    for position, part in enumerate(accepted.split(",")[:20]):
        tag, _, quality = part.partition(";q=")
        primary = tag.strip().lower().partition("-")[0]
        if primary in LANGUAGES:
            try:
                choices.append((-float(quality or 1), position, primary))
            except ValueError:
                continue
    return min(choices)[2] if choices else LANGUAGES[0]


def words(chosen: str) -> dict[str, str]:
    """Every word of the pages in the chosen language."""
    column = LANGUAGES.index(chosen)
    return {key: texts[column] for key, texts in _WORDS.items()}
